"""A signed note inside the file (C2PA): what was made by what from what.

A mark survives a re-encode and says little; a manifest says much and is gone after one. It holds hashes of the
inputs and weights, the settings, and the payload of the marks, and it is signed together with a hash of the file,
so that a changed byte of either shows. File names are left out: they tell about people, not about the picture.

A signature proves that the file is as it was when it was signed. Whose it is, only a certificate from a list of
trust proves. Without one of the user's, each file gets a certificate made for it alone, whose private key is
forgotten: validators then report an intact manifest by an unknown signer ("signing certificate untrusted").

Needs the extra ``provenance`` (c2pa-python, which brings cryptography); nothing else of the package does.
"""

from __future__ import annotations

import importlib
import json
import wave
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

from videoretalking import __version__
from videoretalking.core.errors import UserError
from videoretalking.core.files import atomic_path

ASSERTION = "org.videoretalking.making"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_LIFETIME = timedelta(
    days=3650
)  # of a certificate made for one file: its signature is to be readable for years
_UNTRUSTED = "signingCredential.untrusted"

FORMATS = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".avi": "video/avi",
    ".m4a": "audio/mp4",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
}  # suffix -> MIME type of what can hold a manifest


@dataclass(frozen=True)
class Making:
    """What a manifest tells.

    Attributes:
        inputs: role, such as ``face`` or ``audio`` -> SHA-256 of the file.
        weights: name of the network -> SHA-256 of its file.
        settings: what the run was told, as JSON can hold it.
        mark: payload of the marks in picture and sound, 16 hexadecimal digits; None for a file without.
        version: of this program.
    """

    inputs: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    mark: str | None = None
    version: str = __version__


@dataclass(frozen=True)
class Identity:
    """Who signs.

    Attributes:
        chain: certificates as PEM, the signer's first.
        private_key: its key as PEM, without a password.
        algorithm: as the key demands: ``es256``, ``es384``, ``es512``, ``ps256``, ``ps384``, ``ps512`` or
            ``ed25519``.
    """

    chain: bytes
    private_key: bytes
    algorithm: str = "es256"

    def __repr__(self) -> str:
        return f"Identity(algorithm={self.algorithm!r})"  # a log must not hold the key


@dataclass(frozen=True)
class ManifestReport:
    """What a file's manifest is worth.

    Attributes:
        present: whether there is one.
        intact: whether file, manifest and signature fit each other.
        trusted: whether the signer's certificate comes from a list of trust.
        signer: name in the certificate; empty without a manifest.
        making: what it tells, where this program wrote it.
        problems: codes of C2PA for what does not fit, such as ``assertion.bmffHash.mismatch``.
    """

    present: bool
    intact: bool = False
    trusted: bool = False
    signer: str = ""
    making: Mapping[str, Any] | None = None
    problems: tuple[str, ...] = ()


def load_identity(chain: str | Path, private_key: str | Path) -> Identity:
    """The user's own certificate and key, both PEM files; the key says which algorithm signs.

    Raises:
        UserError: a file cannot be read or is no PEM, the key has a password or is of no kind that C2PA allows, or
            the extra is not installed.
    """
    contents = []
    for path in (chain, private_key):
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from None
        if not content.lstrip().startswith(b"-----BEGIN "):
            raise UserError(f"{path} is no PEM file: it must begin with -----BEGIN")
        contents.append(content)
    return Identity(contents[0], contents[1], _algorithm(contents[1], private_key))


def check_manifest(path: str | Path, identity: Identity | None = None) -> None:
    """Find out before the long work whether a file of this name can be signed, by signing a sound of one sample.

    Args:
        path: the file to come.
        identity: who will sign; None for a certificate made for the file.

    Raises:
        UserError: see :func:`sign_file`.
    """
    c2pa = _library("c2pa")
    _format(path)
    if identity is None:
        _library("cryptography.x509")
        return
    sound = BytesIO()
    with wave.open(sound, "wb") as writer:
        writer.setparams((1, 2, 8000, 1, "NONE", "not compressed"))
        writer.writeframes(bytes(2))
    sound.seek(0)
    kind = FORMATS[".wav"]
    try:
        with _signer(c2pa, identity) as signer, c2pa.Builder(_manifest(Making(), kind)) as builder:
            builder.sign(signer, kind, sound, BytesIO())
    except c2pa.C2paError as error:
        raise UserError(f"the certificate and its key sign nothing: {error}") from None


def make_identity() -> Identity:
    """A certificate for one file, below a root made for it too: C2PA refuses certificates that sign themselves.

    Raises:
        UserError: the extra is not installed.
    """
    elliptic = _library("cryptography.hazmat.primitives.asymmetric.ec")
    serialization = _library("cryptography.hazmat.primitives.serialization")
    root_key, key = (elliptic.generate_private_key(elliptic.SECP256R1()) for _ in range(2))
    root = _certificate("VideoReTalking root of one file", root_key, "", root_key)
    leaf = _certificate("VideoReTalking, unknown user", key, "VideoReTalking root of one file", root_key)
    pem = serialization.Encoding.PEM
    text = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Identity(leaf.public_bytes(pem) + root.public_bytes(pem), text)


def sign_file(
    source: str | Path, target: str | Path, making: Making, identity: Identity | None = None
) -> None:
    """Write a copy of a file with a signed manifest in it; the target may be the source.

    Args:
        source: a file of one of :data:`FORMATS`.
        target: where the copy goes.
        making: what the manifest tells.
        identity: who signs; None for a certificate made for this file.

    Raises:
        UserError: the extra is not installed, the format holds no manifest, or the certificate does not serve.
    """
    c2pa = _library("c2pa")
    kind = _format(source)
    owner = identity or make_identity()
    try:
        with (
            _signer(c2pa, owner) as signer,
            c2pa.Builder(_manifest(making, kind)) as builder,
            atomic_path(target) as temporary,
            Path(source).open("rb") as before,
            temporary.open("w+b") as after,
        ):
            builder.sign(signer, kind, before, after)
    except OSError as error:
        raise UserError(f"cannot sign {source}: {error.strerror or error}") from None
    except c2pa.C2paError as error:
        raise UserError(f"cannot sign {source}: {error}") from None


def verify_file(path: str | Path) -> ManifestReport:
    """Read and check the manifest of a file, of this program or another.

    Raises:
        UserError: the extra is not installed, the format holds no manifest, or the file cannot be read.
    """
    c2pa = _library("c2pa")
    kind = _format(path)
    try:
        with Path(path).open("rb") as handle:
            reader = c2pa.Reader.try_create(kind, handle)
            if reader is None:
                return ManifestReport(False)
            with reader:
                state = str(reader.get_validation_state())
                content = json.loads(reader.json())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except c2pa.C2paError as error:  # a manifest so broken that it cannot be read is there, but not intact
        return ManifestReport(True, problems=(" ".join(str(error).split()),))
    active = content.get("manifests", {}).get(content.get("active_manifest"), {})
    problems = tuple(dict.fromkeys(str(item.get("code")) for item in content.get("validation_status", [])))
    making = next((item["data"] for item in active.get("assertions", []) if item["label"] == ASSERTION), None)
    return ManifestReport(
        present=True,
        intact=state in ("Valid", "Trusted"),
        trusted=state == "Trusted",
        signer=str(active.get("signature_info", {}).get("common_name", "")),
        making=making,
        problems=tuple(code for code in problems if code != _UNTRUSTED),
    )


def _manifest(making: Making, kind: str) -> str:
    """What is signed, as the JSON that c2pa reads; ``kind`` is a MIME type."""
    created = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE}
    return json.dumps(
        {
            "claim_generator_info": [{"name": "VideoReTalking", "version": making.version}],
            "title": "VideoReTalking result",
            "format": kind,
            "assertions": [
                {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
                {"label": ASSERTION, "data": asdict(making)},
            ],
        }
    )


def _signer(c2pa: Any, owner: Identity) -> Any:
    info = c2pa.C2paSignerInfo(owner.algorithm, owner.chain, owner.private_key, None)
    return c2pa.Signer.from_info(info)


def _algorithm(private_key: bytes, path: str | Path) -> str:
    """The name that C2PA has for the way a key signs."""
    serialization = _library("cryptography.hazmat.primitives.serialization")
    try:
        key = serialization.load_pem_private_key(private_key, None)
    except TypeError:
        raise UserError(f"the key {path} has a password: give a file without one") from None
    except ValueError as error:
        raise UserError(f"{path} holds no private key: {error}") from None
    kind = type(key).__name__.lower()
    if "ed25519" in kind:
        return "ed25519"
    if "rsa" in kind:
        return "ps256"
    name = {256: "es256", 384: "es384", 521: "es512"}.get(getattr(key, "key_size", 0))
    if name is None:
        raise UserError(
            f"the key {path} signs no manifest: C2PA takes P-256, P-384, P-521, RSA and Ed25519 keys"
        )
    return name


def _library(name: str) -> Any:
    """A module of the extra, imported when it is needed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError('manifests need c2pa-python: pip install "videoretalking[provenance]"') from None


def _format(path: str | Path) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise UserError(f"{path}: this format holds no manifest; choose one of {', '.join(FORMATS)}")
    return FORMATS[suffix]


def _certificate(name: str, key: Any, issuer: str, issuer_key: Any) -> Any:
    """A certificate for a key; without ``issuer`` a root, which may sign others."""
    x509 = _library("cryptography.x509")
    hashes = _library("cryptography.hazmat.primitives.hashes")
    root = not issuer
    now = datetime.now(timezone.utc)
    usage = {
        "digital_signature": not root,
        "key_cert_sign": root,
        "crl_sign": root,
        "content_commitment": False,
        "key_encipherment": False,
        "data_encipherment": False,
        "key_agreement": False,
        "encipher_only": False,
        "decipher_only": False,
    }
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(_subject(issuer or name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks differ
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=root, path_length=0 if root else None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(authority, critical=False)
    )
    if not root:  # C2PA asks for a purpose; that of signing mail is the one every validator knows
        purpose = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _subject(name: str) -> Any:
    x509 = _library("cryptography.x509")
    return x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COMMON_NAME, name),
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "self-made by VideoReTalking"),
        ]
    )
