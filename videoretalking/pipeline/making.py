"""What the manifest of a result tells and who signs it: checked before the work, written when the file is whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videoretalking.core.config import to_dict
from videoretalking.core.errors import UserError
from videoretalking.core.expressions import EXPRESSION_TEMPLATES
from videoretalking.core.hashing import file_hash
from videoretalking.pipeline.config import InferenceConfig, OutputConfig
from videoretalking.provenance.keys import load_key
from videoretalking.provenance.manifest import Identity, Making, check_manifest, load_identity, sign_file

# Settings that may hold a path, which tells about people; their content is told by its hash.
_FILES = ("weights.dnet", "weights.lnet", "weights.enet", "weights.reconnet", "runtime.cache_dir")
_SECRETS = ("output.mark_key", "output.certificate", "output.private_key")
_FAMILIES = ("auto", "official", "demo")


def check_provenance(output: OutputConfig, outfile: str | Path) -> Identity | None:
    """Find mistakes in keys, certificates and formats.

    Returns:
        who signs; None where nobody is named.

    Raises:
        UserError: a file that does not serve, an option without the one it belongs to, a missing library, or a
            container that holds no manifest.
    """
    if output.mark != "off":
        load_key(output.mark_key)
    if (output.certificate is None) != (output.private_key is None):
        raise UserError("certificate and private-key belong together: give both or none")
    if not output.manifest:
        if output.certificate is not None:
            raise UserError("certificate and private-key sign a manifest: give --manifest too")
        return None
    identity = None
    if output.certificate is not None and output.private_key is not None:
        identity = load_identity(output.certificate, output.private_key)
    check_manifest(outfile, identity)
    return identity


def sign_result(
    outfile: str | Path,
    config: InferenceConfig,
    inputs: Mapping[str, str | Path],
    weights: Mapping[str, str],
    mark: str | None,
    family: str,
) -> None:
    """Sign a finished result in place.

    Args:
        outfile: the result.
        config: of the run.
        inputs: role, such as ``face`` -> file.
        weights: network -> file.
        mark: payload of the marks as text; None for a result without.
        family: of the weights.

    Raises:
        UserError: it cannot be signed; the result stays, without a manifest.
    """
    expression = config.render.expression
    files = dict(inputs)
    if expression not in EXPRESSION_TEMPLATES:
        files["expression"] = expression
    making = Making(
        inputs={role: file_hash(path) for role, path in files.items()},
        weights={network: file_hash(path) for network, path in weights.items()},
        settings=told_settings(config, family),
        mark=mark,
    )
    identity = check_provenance(config.output, outfile)
    try:
        sign_file(outfile, outfile, making, identity)
    except UserError as error:
        raise UserError(f"{error}; the result is there, without a manifest") from None


def told_settings(config: InferenceConfig, family: str) -> dict[str, Any]:
    """The settings without paths, as groups of JSON values."""
    settings = to_dict(config)
    for key in (*_FILES, *_SECRETS):
        group, name = key.split(".")
        del settings[group][name]
    settings["weights"]["family"] = family if family in _FAMILIES else "folder"
    if config.render.expression not in EXPRESSION_TEMPLATES:
        settings["render"]["expression"] = "file"
    return settings
