"""The one call for a GPU: parts that fail alone, figures of tests and traces, a page for readers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from videoretalking.core.errors import UserError
from videoretalking.scripts import gpu_check
from videoretalking.scripts.gpu_check import main, read_tests, run_limited
from videoretalking.scripts.gpu_profile import covered, summarize

ROOT = Path(__file__).resolve().parents[2]
SLEEP = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_command_ends_with_its_time_and_so_does_what_it_started(tmp_path: Path) -> None:
    started = time.monotonic()
    assert (
        run_limited(python(f"print('begun', flush=True); {SLEEP}"), tmp_path / "log", 1.5, "cpu")
        == "timed out"
    )
    assert time.monotonic() - started < 20.0
    assert (tmp_path / "log").read_text() == "begun\n"
    assert run_limited(python("raise SystemExit(3)"), tmp_path / "log", 60.0, "cpu") == "failed (3)"
    told = "import os; print(os.environ['VIDEORETALKING_GPU_TEST_DEVICE'])"
    assert run_limited(python(told), tmp_path / "log", 60.0, "cuda:1") == "passed"
    assert (tmp_path / "log").read_text() == "cuda:1\n"


def test_results_come_from_the_output_where_the_run_was_cut(tmp_path: Path) -> None:
    output = [
        "tests/gpu/test_a.py::test_one PASSED  [ 33%]",
        "[gw1] [ 66%] FAILED tests/gpu/test_a.py::test_two[a b]",
        "[gw0] [ 99%] SKIPPED tests/gpu/test_a.py::test_three",
        "PASSED is no line of a test",
    ]
    found = read_tests(tmp_path / "none.xml", output)
    assert found["counts"] == {"failed": 1, "passed": 1, "skipped": 1}
    assert found["wrong"] == ["tests/gpu/test_a.py::test_two[a b]"] and "figures" not in found
    (tmp_path / "all.xml").write_text(
        '<testsuites><testsuite><testcase name="test_one" time="0.5"><properties>'
        '<property name="error" value="1e-6"/></properties></testcase></testsuite></testsuites>'
    )
    assert read_tests(tmp_path / "all.xml", output)["figures"] == {
        "test_one": {"error": "1e-6", "seconds": 0.5}
    }


def test_a_trace_tells_what_the_gpu_did() -> None:
    def event(category: str, name: str, start: float, length: float, **arguments: int) -> dict[str, object]:
        return {"ph": "X", "cat": category, "name": name, "ts": start, "dur": length, "args": arguments}

    events = [
        event("kernel", "conv", 0.0, 400_000.0),
        event("kernel", "norm", 200_000.0, 300_000.0),  # beside the first
        event("kernel", "conv", 700_000.0, 100_000.0),
        event("gpu_memcpy", "Memcpy HtoD (Pinned -> Device)", 500_000.0, 100_000.0, bytes=1024),
        event("gpu_memcpy", "Memcpy DtoH (Device -> Pageable)", 900_000.0, 50_000.0, bytes=10),
        event("cuda_runtime", "cudaStreamSynchronize", 0.0, 2_000.0),
        event("cuda_runtime", "cudaLaunchKernel", 0.0, 9_000.0),
        {"ph": "M", "name": "process_name"},
    ]
    assert covered(events[:3]) == (600_000.0, 200_000.0)
    figures = summarize(events, seconds=2.0)
    assert figures["share of time the GPU computes"] == pytest.approx(0.3)
    assert figures["share of time the GPU computes or copies"] == pytest.approx(0.375)
    assert (figures["bytes to the GPU"], figures["bytes from the GPU"]) == (1024, 10)
    assert figures["kernels"][0] == {"name": "conv", "count": 2, "ms": 500.0}
    assert [row["name"] for row in figures["waits"]] == ["cudaStreamSynchronize"]
    assert figures["operators"] == []


def test_a_part_that_crashes_costs_only_its_own_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {"kernels started": 7, "stages": [{"stage": "mask", "busy seconds": 1.5}]}
    monkeypatch.setattr(gpu_check, "_tests_command", lambda *_: python("print('no tests')"))
    monkeypatch.setattr(gpu_check, "_benchmark_command", lambda *_: python("raise SystemExit('broken')"))
    monkeypatch.setattr(
        gpu_check,
        "_profile_command",
        lambda options, limit, into: python(f"import json; json.dump({figures}, open({str(into)!r}, 'w'))"),
    )
    assert main(["--device", "cpu", "--output", str(tmp_path), "--minutes", "2"]) == 1
    parts = json.loads((tmp_path / "gpu_check.json").read_text())["parts"]
    assert {name: part["status"] for name, part in parts.items()} == {
        "tests": "failed (no test ran)",
        "benchmark": "failed (1)",
        "profile": "passed",
    }
    assert parts["benchmark"]["output"] == ["broken"] and parts["profile"]["figures"]["kernels started"] == 7
    page = (tmp_path / "gpu_check.md").read_text()
    assert (
        "| benchmark | failed (1) |" in page and "- kernels started: 7" in page and "| mask | 1.5 |" in page
    )
    # and without time for it a part is not begun
    assert main(["--device", "cpu", "--output", str(tmp_path), "--minutes", "0.01"]) == 1
    assert "no time left" in (tmp_path / "gpu_check.md").read_text()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--output"):
        main(["--device", "cpu", "--output", str(tmp_path / "file")])


def test_what_cannot_be_imported_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_library.py").write_text("raise OSError('libfoo.so.1 is missing')")
    monkeypatch.setattr(gpu_check, "_IMPORTED", ("json", "no_such_library", "broken_library"))
    with pytest.raises(UserError, match=r"no_such_library .*; broken_library .*libfoo\.so\.1.*requirements"):
        main(["--device", "cpu", "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out" / "gpu_check.json").exists()


def test_tests_for_a_gpu_run_without_one() -> None:
    tests = (
        "tests/gpu/test_gpu_training.py::test_losses_are_those_of_the_cpu[dnet]",
        "tests/gpu/test_gpu_networks.py::test_bundled_pictures_in_bfloat16[enet]",
        "tests/gpu/test_gpu_data.py",
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"VIDEORETALKING_GPU_TEST_DEVICE": "cpu"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0 and "skipped" not in result.stdout, result.stdout[-2000:]
