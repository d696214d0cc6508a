"""The signed manifest: it verifies, it breaks on a changed byte, and its absent library is named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sample_media import write_clip

from videoretalking.core.errors import UserError
from videoretalking.core.hashing import file_hash
from videoretalking.provenance.manifest import (
    Identity,
    Making,
    check_manifest,
    load_identity,
    make_identity,
    sign_file,
    verify_file,
)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", range(0, 200, 20))


def need_library() -> None:
    pytest.importorskip("c2pa", reason="needs c2pa-python (the extra provenance)")


def test_manifest_tells_what_was_signed_and_keeps_no_name(clip: Path, tmp_path: Path) -> None:
    need_library()
    making = Making(
        {"face": file_hash(clip)}, {"lnet": "ab" * 32}, {"fps": 25, "mark": "on"}, "0123456789abcdef"
    )
    signed = tmp_path / "secret name.mp4"
    sign_file(clip, signed, making)
    report = verify_file(signed)
    assert report.present
    assert report.intact
    assert not report.trusted
    assert report.problems == ()
    assert "unknown user" in report.signer
    assert report.making is not None
    assert report.making["inputs"] == {"face": file_hash(clip)}
    assert report.making["settings"] == {"fps": 25, "mark": "on"}
    assert report.making["mark"] == "0123456789abcdef"
    assert b"secret name" not in signed.read_bytes()


def test_manifest_breaks_on_one_changed_byte(clip: Path) -> None:
    need_library()
    content = clip.read_bytes()
    sign_file(clip, clip, Making(settings={"here": "a setting that is told"}))
    signed = clip.read_bytes()
    assert len(signed) > len(content)
    picture = signed.index(b"mdat") + 60
    word = signed.index(b"a setting that is told")
    for place in (picture, word, len(signed) - 20):
        broken = bytearray(signed)
        broken[place] ^= 1
        clip.write_bytes(broken)
        report = verify_file(clip)
        assert report.present
        assert not report.intact, place
        assert report.problems


def test_file_without_manifest_has_none(clip: Path) -> None:
    need_library()
    assert verify_file(clip).present is False


def test_own_identity_signs(clip: Path, tmp_path: Path) -> None:
    need_library()
    made = make_identity()
    (tmp_path / "chain.pem").write_bytes(made.chain)
    (tmp_path / "key.pem").write_bytes(made.private_key)
    identity = load_identity(tmp_path / "chain.pem", tmp_path / "key.pem")
    assert identity == made
    assert "PRIVATE" not in repr(identity)
    sign_file(clip, clip, Making(), identity)
    assert verify_file(clip).intact


def test_identity_that_does_not_serve_is_refused_and_leaves_the_file(clip: Path, tmp_path: Path) -> None:
    need_library()
    before = clip.read_bytes()
    bad = Identity(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"-----BEGIN X-----\n")
    with pytest.raises(UserError, match="cannot sign"):
        sign_file(clip, clip, Making(), bad)
    assert clip.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_certificate_is_tried_before_the_work(tmp_path: Path) -> None:
    need_library()
    made, other = make_identity(), make_identity()
    check_manifest("result.mp4", made)
    check_manifest("result.mp4")
    with pytest.raises(UserError, match="sign nothing"):
        check_manifest("result.mp4", Identity(b"-----BEGIN CERTIFICATE-----\nAAAA\n", made.private_key))
    with pytest.raises(UserError, match=r"result\.webm: this format holds no manifest"):
        check_manifest("result.webm", made)
    (tmp_path / "chain.pem").write_bytes(made.chain)
    for content, words in ((made.chain, "holds no private key"), (with_password(other), "has a password")):
        (tmp_path / "key.pem").write_bytes(content)
        with pytest.raises(UserError, match=words):
            load_identity(tmp_path / "chain.pem", tmp_path / "key.pem")


def with_password(identity: Identity) -> bytes:
    """The key of an identity, locked."""
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(identity.private_key, None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


@pytest.mark.parametrize(
    ("kind", "algorithm"), [("SECP384R1", "es384"), ("Ed25519", "ed25519"), ("RSA", "ps256")]
)
def test_the_key_says_how_it_signs(tmp_path: Path, kind: str, algorithm: str) -> None:
    need_library()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    keys = {
        "SECP384R1": lambda: ec.generate_private_key(ec.SECP384R1()),
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
        "RSA": lambda: rsa.generate_private_key(65537, 2048),
    }
    text = keys[kind]().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(text)
    (tmp_path / "chain.pem").write_bytes(make_identity().chain)
    assert load_identity(tmp_path / "chain.pem", tmp_path / "key.pem").algorithm == algorithm


def test_files_that_are_no_pem_are_named(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text("nothing")
    with pytest.raises(UserError, match=r"key\.pem is no PEM file"):
        load_identity(path, path)
    with pytest.raises(UserError, match="cannot read"):
        load_identity(tmp_path / "absent.pem", path)


def test_formats_that_hold_no_manifest_are_named(tmp_path: Path) -> None:
    need_library()
    with pytest.raises(UserError, match=r"clip\.mkv: this format holds no manifest"):
        sign_file(tmp_path / "clip.mkv", tmp_path / "out.mkv", Making())


def test_absent_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(UserError, match=r"videoretalking\[provenance\]"):
        verify_file(clip)
