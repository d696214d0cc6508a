"""Exactness of every network and algorithm, through the code of ``python -m scripts.parity``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from videoretalking.core.errors import UserError
from videoretalking.models.enet import ENet
from videoretalking.models.official.layout import flip_triples
from videoretalking.scripts.parity.__main__ import main
from videoretalking.scripts.parity.algorithms import CASES, complaints, load_reader
from videoretalking.scripts.parity.cases import CaseFolder
from videoretalking.scripts.parity.kit import Kit, fill_state, largest_error
from videoretalking.scripts.parity.networks import ADAPTERS, load_from_kit, network_error
from videoretalking.scripts.parity.published.enet import enhance_from_audio

BUNDLED = ("dnet", "enet", "lnet", "reconnet", "syncnet")
SEEDS = (0, 1)
ALGORITHMS = (
    "mel", "mel_chunks", "align3dmm", "coeffs", "blend", "masks", "ffhq_croper", "stit_align", "enhancer_align",
    "boxes", "lnet_batch", "mfcc", "sync_scores", "sync_tracks", "cpbd", "fid", "sync_loss", "facts",
)  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_networks_of_the_kit(kit_dir: Path, name: str, seed: int) -> None:
    kit = Kit(kit_dir)
    assert network_error(kit, name, seed) <= kit.spec(name)["tolerance"]


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_figures_without_the_kit(shared_if_any: Path | None, figures_kit: Kit, name: str) -> None:
    spec = figures_kit.spec(name)
    if shared_if_any is not None:
        # the full kit is tested above; here only that the copy says the same
        original = Kit(shared_if_any / "parity")
        assert all(original.spec(name)[key] == spec[key] for key in ("keys", "inputs", "tolerance"))
        golden, copy = original.golden(name, 0), figures_kit.golden(name, 0)
        assert golden.keys() == copy.keys()
        assert all(np.array_equal(golden[key], copy[key]) for key in golden)
    else:
        assert network_error(figures_kit, name, 0) <= spec["tolerance"]


@pytest.mark.parametrize("case", ALGORITHMS)
def test_algorithms_of_the_kit(kit_dir: Path, case: str) -> None:
    assert complaints(load_reader(kit_dir / "algorithms"), case) == []


@pytest.fixture(scope="module")
def copied_cases(figures_kit: Kit) -> CaseFolder:
    """The small copy of the algorithm cases."""
    reader = load_reader(figures_kit.root / "algorithms")
    assert isinstance(reader, CaseFolder)
    return reader


@pytest.mark.parametrize("case", ALGORITHMS)
def test_algorithms_without_the_kit(copied_cases: CaseFolder, case: str) -> None:
    _, expected = copied_cases.load_case(case)
    assert sum(len(fields) for fields in expected.values()) >= 2
    assert complaints(copied_cases, case) == []


def test_the_copy_says_what_the_kit_says(copied_cases: CaseFolder, kit_dir: Path) -> None:
    original = load_reader(kit_dir / "algorithms")
    assert sorted(copied_cases.CASES) == sorted(original.CASES)
    for case in copied_cases.CASES:
        for copied, kept in zip(copied_cases.load_case(case), original.load_case(case), strict=True):
            for sub, fields in copied.items():
                for field, value in fields.items():
                    array, wanted = np.asarray(value), np.asarray(kept[sub][field])
                    assert array.dtype == wanted.dtype and array.shape == wanted.shape, (case, sub, field)
                    blank = array.dtype == np.uint8 and array.ndim == 3 and not array.any()
                    same = (
                        array == wanted if array.dtype.kind == "U" else np.isclose(array, wanted, 0, 0, True)
                    )
                    assert blank or same.all(), (case, sub, field)


def test_wrong_answers_are_seen(copied_cases: CaseFolder) -> None:
    _, expected = copied_cases.load_case("boxes")
    box, first = expected["decode"]["box"], expected["choice"]["rect_first"]
    assert copied_cases.check("boxes", "decode", {"box": box + 5e-5}) == []
    assert (
        "30 of 120 values off by up to 1"
        in copied_cases.check("boxes", "decode", {"box": box + np.array([1, 0, 0, 0])})[0]
    )
    assert "nan" in copied_cases.check("boxes", "decode", {"box": box * np.nan})[0]
    assert "shape" in copied_cases.check("boxes", "choice", {"rect_first": first[:3]})[0]
    _, expected = copied_cases.load_case("ffhq_croper")
    assert "expected none" in copied_cases.check("ffhq_croper", "found_late", {"status": "ok"})[0]
    crop = copied_cases.load_case("align3dmm")[1]["spill"]["crop_s4"]
    assert (
        "100.0 % of the values differ"
        in copied_cases.check("align3dmm", "spill", {"crop_s4": crop.astype(int) + 1})[0]
    )


def test_every_case_of_the_kit_is_listed(kit_dir: Path) -> None:
    assert sorted(load_reader(kit_dir / "algorithms").CASES) == sorted(ALGORITHMS)
    assert set(Kit(kit_dir).names) == set(ADAPTERS)
    assert set(CASES) <= set(ALGORITHMS)


def relative_error(output: torch.Tensor, reference: torch.Tensor) -> float:
    return float((output - reference).norm() / reference.norm())


@torch.no_grad()
def test_bfloat16_autocast_of_dnet(figures_kit: Kit) -> None:
    network, inputs = load_from_kit(figures_kit, "dnet", 0), figures_kit.inputs("dnet", 0)
    arguments = (inputs["image"] * 0.5 + 0.5, inputs["coeffs_27"])
    reference = network(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(*arguments)
    for name in ("flow", "warped", "image"):
        assert relative_error(getattr(output, name), getattr(reference, name)) <= 3e-2


@torch.no_grad()
def test_bfloat16_autocast_of_lnet_and_enet(figures_kit: Kit) -> None:
    (enet, lnet), inputs = load_from_kit(figures_kit, "enet", 0), figures_kit.inputs("enet", 0)
    assert isinstance(enet, ENet)
    arguments = (inputs["audio"], flip_triples(inputs["faces"], 1), flip_triples(inputs["target"], 1))
    image, low_res = enhance_from_audio(lnet, enet, *arguments)
    with torch.autocast("cpu", torch.bfloat16):
        fast_image, fast_low_res = enhance_from_audio(lnet, enet, *arguments)
    assert relative_error(fast_low_res, low_res) <= 3e-2
    assert relative_error(fast_image, image) <= 3e-2


def test_synthetic_weights_are_the_recipe(figures_kit: Kit) -> None:
    keys = figures_kit.spec("syncnet")["keys"][:3]
    state = fill_state(keys, 0)
    assert list(state) == [entry["name"] for entry in keys]
    again, other = fill_state(keys, 0), fill_state(keys, 1)
    name = keys[0]["name"]
    assert torch.equal(state[name], again[name])
    assert not torch.equal(state[name], other[name])


def test_errors_are_seen(figures_kit: Kit) -> None:
    golden = figures_kit.golden("reconnet", 0)
    exact = torch.zeros(2, 257, dtype=torch.float64)
    exact.view(-1)[torch.from_numpy(golden["coeffs.index"]).long()] = torch.from_numpy(
        golden["coeffs.value"]
    ).double()
    assert largest_error(golden, {"coeffs": exact}) < 1e-5
    exact[1, 7] += 0.01 * float(golden["coeffs.stats"][1])
    assert largest_error(golden, {"coeffs": exact}) > 9e-3
    with pytest.raises(ValueError, match="missing"):
        largest_error(golden, {})
    with pytest.raises(ValueError, match="shape"):
        largest_error(golden, {"coeffs": exact[:1]})
    with pytest.raises(ValueError, match="finite"):
        largest_error(golden, {"coeffs": exact * float("nan")})


def test_command_counts_and_fails_when_one_is_off(
    figures_kit: Kit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "syncnet"
    folder.mkdir()
    (folder / "keys.json").write_text((figures_kit.root / "syncnet" / "keys.json").read_text())
    golden = figures_kit.golden("syncnet", 0)
    np.savez(folder / "golden_seed0.npz", **golden)
    assert main(["--kit", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("1 of 1 within tolerance\n")
    golden["lip_feature.value"] = golden["lip_feature.value"] + 0.1
    np.savez(folder / "golden_seed0.npz", **golden)
    assert main(["--kit", str(tmp_path), "--networks", "syncnet"]) == 1
    assert "TOO LARGE" in (out := capsys.readouterr().out)
    assert out.endswith("0 of 1 within tolerance\n")
    with pytest.raises(UserError, match="has no network nonet"):
        main(["--kit", str(tmp_path), "--networks", "nonet"])
    with pytest.raises(UserError, match="not a folder"):
        main(["--kit", str(tmp_path / "none")])
    with pytest.raises(UserError, match=r"cases\.py"):
        main(["--kit", str(tmp_path), "--algorithms"])
