from __future__ import annotations

from pathlib import Path

import pytest

from videoretalking.core.errors import UserError
from videoretalking.pipeline.batch import BatchJob, read_jobs, run_jobs


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
    ],
)
def test_mistakes_in_lists(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        read_jobs(_write(tmp_path / "jobs.csv", text))
    with pytest.raises(UserError, match="cannot be read"):
        read_jobs(tmp_path / "absent.csv")


def test_one_bad_job_does_not_stop_the_others(tmp_path: Path) -> None:
    class Dubber:
        def dub(self, face: str, audio: str, outfile: str) -> Dubber:
            if face == "bad":
                raise UserError("no face")
            return self

        def save(self, path: Path) -> None:
            path.write_text("{}")

    jobs = [BatchJob("good", "a", "1.mp4"), BatchJob("bad", "a", "2.mp4"), BatchJob("good", "a", "3.mp4")]
    assert run_jobs(Dubber(), jobs, tmp_path) == ["2.mp4: no face"]  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.json", "3.json"]
