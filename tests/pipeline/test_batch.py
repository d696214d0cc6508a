from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import pytest

from videoretalking.core.errors import UserError
from videoretalking.core.workers import Finished
from videoretalking.pipeline.batch import BatchJob, read_jobs, report_names, run_jobs, run_jobs_on_ray
from videoretalking.pipeline.config import InferenceConfig


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_reading_a_list(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "jobs.csv", 'outfile,face,audio,note\no1.mp4,"a, b.mp4",s.wav,x\no2.mp4,c.mp4,t.wav,\n'
    )
    assert read_jobs(path) == [BatchJob("a, b.mp4", "s.wav", "o1.mp4"), BatchJob("c.mp4", "t.wav", "o2.mp4")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no jobs"),
        ("face,audio,outfile\n", "no jobs"),
        ("face,sound,outfile\na,b,c\n", "lacks the columns audio"),
        ("face,audio,outfile\na,,c\n", "line 2"),
        ("face,audio,outfile\na,b\n", "line 2"),
        ("face,audio,outfile\na,b,o\nc,d,o\n", "several jobs write o"),
        ("face,audio,outfile\na,b,o\nc,d,./x/../o\n", "several jobs write ./x/../o"),
        ("face,audio,outfile\na,b,./a\n", "./a is an input and a result"),
        ("face,audio,outfile\na,b,o\nc,o,p\n", "o is an input and a result"),
    ],
)
def test_mistakes_in_lists(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        read_jobs(_write(tmp_path / "jobs.csv", text))
    with pytest.raises(UserError, match="cannot be read"):
        read_jobs(tmp_path / "absent.csv")


class Dubber:
    """Stands in for the main job; faces whose names are errors raise them."""

    errors: ClassVar[dict[str, Exception]] = {
        "user": UserError("no face"),
        "defect": AttributeError("no such thing"),
        "name": OSError(36, "File name too long"),
        "memory": MemoryError(),
    }

    def dub(self, face: str, audio: str, outfile: str) -> Dubber:
        if face in self.errors:
            raise self.errors[face]
        return self

    def save(self, path: Path) -> None:
        path.write_text("{}")


def test_one_bad_job_does_not_stop_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    jobs = [BatchJob(face, "a", f"{face}.mp4") for face in ("first", *Dubber.errors, "last")]
    failures = run_jobs(Dubber(), jobs, tmp_path)  # type: ignore[arg-type]
    assert failures[:2] == ["user.mp4: no face", "defect.mp4: unexpected AttributeError: no such thing"]
    assert [line.partition(":")[0] for line in failures] == [f"{face}.mp4" for face in Dubber.errors]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.json", "last.json"]
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == failures and not any("\n" in line for line in errors)


def test_a_cluster_runs_the_same_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ray(build: Any, jobs: Any, **_: Any) -> Any:
        dub = build("cpu")
        for job in jobs:
            yield Finished(job, died=True) if job.face == "killer" else Finished(job, dub(job))

    monkeypatch.setattr("videoretalking.pipeline.batch.run_on_ray", ray)
    monkeypatch.setattr("videoretalking.pipeline.batch.whole_gpus", lambda: 0.0)
    monkeypatch.setattr("videoretalking.pipeline.retalker.Retalker.from_pretrained", lambda _: Dubber())
    jobs = [BatchJob(face, "a", f"{face}.mp4") for face in ("first", "user", "killer", "last")]
    failures = run_jobs_on_ray(InferenceConfig(), jobs, tmp_path)
    assert failures == ["user.mp4: no face", "killer.mp4: its process died at every try"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.json", "last.json"]


def test_an_interrupt_stops_all(tmp_path: Path) -> None:
    class Interrupted(Dubber):
        def dub(self, face: str, audio: str, outfile: str) -> Dubber:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(Interrupted(), [BatchJob("a", "b", "c")], tmp_path)  # type: ignore[arg-type]


def test_reports_of_one_name_are_numbered() -> None:
    results = ["p/x.mp4", "q/x.mp4", "x-2.mp4", "r/X.mkv", "y.mp4"]
    names = report_names([BatchJob("a", "b", result) for result in results])
    assert names == ["x.json", "x-2.json", "x-2-2.json", "X-3.json", "y.json"]
    assert len({name.casefold() for name in names}) == len(results)
