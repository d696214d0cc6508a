"""Weights to the Hugging Face hub: ``python -m scripts.push runs/lnet owner/name``.

Pushes the checkpoints of a folder with a model card and the text of their license. What each file is, was trained
with and may be used for comes from its own metadata. Needs the extra ``hub``, and the token that
``hf auth login`` leaves.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

from videoretalking.core.checkpoint import read_metadata
from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.hub import import_hub, is_repository
from videoretalking.train.config import LoopConfig

logger = logging.getLogger(__name__)

CARD = "README.md"
_CARDS = (CARD, "MODEL_CARD.md")
_UNSTATED = LoopConfig.license


def main() -> None:
    """Command line."""
    parser = CommandParser(description="Push checkpoints with a model card and their license to the hub.")
    parser.add_argument(
        "folder", type=Path, help="run folder, or any folder with checkpoints of this project"
    )
    parser.add_argument("repository", help="owner/name on the hub; made if it does not exist")
    parser.add_argument(
        "--license-file", type=Path, help="text of the license (default: LICENSE in the folder)"
    )
    parser.add_argument("--public", action="store_true", help="show it to everybody (default: private)")
    parser.add_argument("--dry-run", action="store_true", help="only write what would be pushed to --output")
    parser.add_argument("--output", type=Path, default=Path("results/push"), help="folder of --dry-run")
    arguments = parser.parse_args()
    if arguments.dry_run:
        stage(arguments.folder, arguments.repository, arguments.output, arguments.license_file)
        logger.info("nothing was pushed: see %s", arguments.output)
        return
    hub = import_hub()
    with tempfile.TemporaryDirectory() as staged:
        stage(arguments.folder, arguments.repository, Path(staged), arguments.license_file)
        push(hub.HfApi(), Path(staged), arguments.repository, arguments.public)


def stage(folder: Path, repository: str, target: Path, license_file: Path | None = None) -> list[str]:
    """Lay out what is pushed: checkpoints, card and license.

    Args:
        folder: folder with checkpoints; numbered ones in ``kept`` stay out.
        repository: its name on the hub.
        target: folder to fill, made if it does not exist.
        license_file: text of the license; None for ``LICENSE`` in ``folder``.

    Returns:
        Names of the checkpoints.

    Raises:
        UserError: no checkpoint, one that does not say under which license it is, no license text, or no
            possible name of a repository.
    """
    if not is_repository(repository):
        raise UserError(f"{repository!r} cannot be the name of a repository: write owner/name")
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise UserError(f"{folder} holds no *.safetensors: name the folder of a run or of a set of weights")
    license_file = license_file or folder / "LICENSE"
    if not license_file.is_file():
        raise UserError(f"there is no license text {license_file}: name one with --license-file")
    described = {path.name: read_metadata(path) for path in paths}
    for name, metadata in described.items():
        if metadata["license"] in ("", _UNSTATED):
            raise UserError(
                f"{folder / name} does not say under which license it is: set loop.license and let the run write "
                "it again (the last state is enough)"
            )
    target.mkdir(parents=True, exist_ok=True)
    for path in paths:
        shutil.copyfile(path, target / path.name)
    shutil.copyfile(license_file, target / "LICENSE")
    own = next((folder / name for name in _CARDS if (folder / name).is_file()), None)
    body = own.read_text(encoding="utf-8") if own is not None else f"# {repository.partition('/')[2]}\n"
    (target / CARD).write_text(make_card(body, repository, described), encoding="utf-8")
    return list(described)


def push(api: Any, staged: Path, repository: str, public: bool) -> None:
    """Upload a staged folder as one commit.

    Args:
        api: ``huggingface_hub.HfApi``.
        staged: what :func:`stage` laid out.
        repository: owner/name.
        public: show it to everybody.

    Raises:
        UserError: the hub refuses.
    """
    try:
        api.create_repo(repo_id=repository, private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=str(staged), commit_message="Weights, card and license"
        )
    except Exception as error:  # its own kinds and those of the network below it have no common one
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the hub refuses {repository}: {reason}; are you logged in (hf auth login)?"
        ) from None
    logger.info("pushed to https://huggingface.co/%s (%s)", repository, "public" if public else "private")


def make_card(body: str, repository: str, described: dict[str, dict[str, Any]]) -> str:
    """The model card: what the hub reads, a text, and a section for each checkpoint.

    Args:
        body: text of the card; what the hub reads stays if it has that already.
        repository: owner/name.
        described: file name -> metadata of the checkpoint.
    """
    head = "" if body.startswith("---\n") else "---\nlicense: other\nlibrary_name: videoretalking\n---\n\n"
    parts = [f"{head}{body.rstrip()}\n", _usage(repository, described), "## Files\n"]
    for name, metadata in described.items():
        extra = metadata["extra"]
        lines = [f"### {name}\n", f"- network: `{metadata['network']}`", f"- license: {metadata['license']}"]
        if "step" in extra:
            lines.append(f"- trained for {extra['step']} steps")
        if extra.get("figures"):
            figures = ", ".join(f"{key} {value:.4g}" for key, value in extra["figures"].items())
            lines.append(f"- validation: {figures}")
        lines.append(f"- sizes: `{json.dumps(metadata['config'], sort_keys=True)}`\n")
        parts.append("\n".join(lines))
    return "\n".join(parts)


def _usage(repository: str, described: dict[str, dict[str, Any]]) -> str:
    networks = {metadata["network"] for metadata in described.values()}
    if {"dnet", "lnet", "enet"} <= networks:
        lines = [
            "from videoretalking import Retalker",
            f'Retalker.from_pretrained("{repository}").dub("speaker.mp4", "speech.wav", "dubbed.mp4")',
        ]
    else:
        lines = [
            "from videoretalking.models.catalog import from_pretrained",
            f'network = from_pretrained("{repository}", "{sorted(networks)[0]}")',
        ]
    install = "With `pip install 'videoretalking[hub]'`:"
    return "\n".join(
        ["## Use\n", f"{install}\n", "```python", *lines, "```\n", "The license is in `LICENSE`.\n"]
    )


if __name__ == "__main__":
    run_command(main)
