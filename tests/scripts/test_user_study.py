from __future__ import annotations

import json
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from webdriver import Browser, browser

from videoretalking.core.errors import UserError
from videoretalking.evaluation.plots import OURS, PAPER
from videoretalking.media.images import load_image
from videoretalking.scripts.user_study import (
    Interval,
    Rating,
    confidence_interval,
    draw_study,
    lowest_rated,
    main,
    make_study,
    participant_means,
    read_ratings,
    score_study,
)

METHODS = ("Ours", "Wav2Lip")


def _write_video(path: Path, level: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        stream.time_base = Fraction(1, 25)
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), level, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    result = {}
    for level, method in enumerate(METHODS):
        result[method] = tmp_path / method
        result[method].mkdir()
        for name in ("a", "b", "c"):
            _write_video(result[method] / f"{name}.mp4", 60 + 90 * level)
    (result["Ours"] / "only_here.mp4").write_bytes(b"")
    return result


def test_page_hides_methods_and_holds_the_videos(folders: dict[str, Path], tmp_path: Path) -> None:
    page = make_study(folders, tmp_path / "study", num_videos=2, seed=3)
    text = page.read_text()
    key = json.loads((tmp_path / "study" / "key.json").read_text())
    assert not any(word in text for word in (*METHODS, "a.mp4", "b.mp4", "c.mp4", "STUDY_JSON"))
    assert text.count("data:video/mp4;base64,") == 4
    assert sorted(item["method"] for item in key["items"].values()) == ["Ours", "Ours", "Wav2Lip", "Wav2Lip"]
    assert len({item["video"] for item in key["items"].values()}) == 2
    again = make_study(folders, tmp_path / "again", num_videos=2, seed=3)
    assert again.read_text() == text
    assert make_study(folders, tmp_path / "other", num_videos=2, seed=4).read_text() != text


def test_videos_may_stay_beside_the_page(folders: dict[str, Path], tmp_path: Path) -> None:
    make_study(folders, tmp_path / "study", num_videos=3, external=True)
    key = json.loads((tmp_path / "study" / "key.json").read_text())
    for item, entry in key["items"].items():
        copy = tmp_path / "study" / "videos" / f"{item}.mp4"
        assert copy.read_bytes() == (folders[entry["method"]] / entry["video"]).read_bytes()


def test_too_few_common_videos(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="only 3 exist"):
        make_study(folders, tmp_path / "study", num_videos=4)
    with pytest.raises(UserError, match="does not exist"):
        make_study({"Ours": tmp_path / "nowhere"}, tmp_path / "study", num_videos=1)


def test_ten_videos_are_asked_for_as_in_the_paper(folders: dict[str, Path], tmp_path: Path) -> None:
    arguments = [f"--results={method}={folder}" for method, folder in folders.items()]
    with pytest.raises(UserError, match="10 videos wanted"):
        main(["make", *arguments, "--out", str(tmp_path / "study")])


def test_interval_by_hand() -> None:
    # means 4.5, 3.5 and 5: mean 13/3, deviation 0.763763, Student's quantile for 2 degrees of freedom 4.302653
    interval = confidence_interval([4.5, 3.5, 5.0])
    assert interval.mean == pytest.approx(13 / 3)
    assert interval.half_width == pytest.approx(4.302653 * 0.763763 / 3**0.5, rel=1e-6)
    assert confidence_interval([4.0]) == Interval(4.0, None)


KEY = {
    "study": "s",
    "items": {f"{method}{video}": {"method": method, "video": video} for method in METHODS for video in "12"},
}


RATINGS = [
    Rating("p", "Ours1", {"visual": 5, "lip_sync": 4}),
    Rating("p", "Ours2", {"visual": 4, "lip_sync": 4}),
    Rating("q", "Ours1", {"visual": 3, "lip_sync": 2}),
    Rating("p", "Wav2Lip1", {"visual": 1, "lip_sync": 2}),
]


def test_participants_count_once_each() -> None:
    scores = score_study(RATINGS, KEY)
    # p: 4.5, q: 3; deviation 1.06066, quantile for one degree of freedom 12.7062
    assert scores["Ours"]["visual"].mean == pytest.approx(3.75)
    assert scores["Ours"]["visual"].half_width == pytest.approx(12.7062 * 1.06066 / 2**0.5, rel=1e-4)
    assert scores["Ours"]["lip_sync"].mean == pytest.approx(3.0)
    assert scores["Wav2Lip"]["visual"] == Interval(1.0, None)


def test_the_lowest_rated_videos_are_named() -> None:
    videos = {item: entry["video"] for item, entry in KEY["items"].items()}
    assert lowest_rated(RATINGS, KEY) == [
        f"Ours, lowest rated: {videos['Ours1']} (3.50), {videos['Ours2']} (4.00)",
        f"Wav2Lip, lowest rated: {videos['Wav2Lip1']} (1.50)",
    ]


def test_opinions_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / "study.png"
    draw_study(path, participant_means(RATINGS, KEY))
    colors = {tuple(color) for color in load_image(path)[:-60].reshape(-1, 3)}
    assert OURS in colors and PAPER in colors


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x,p,1,Ours1,3,3", "belongs to study"),
        ("s,p,1,Nobody,3,3", "unknown video"),
        ("s,p,1,Ours1,6,3", "visual must be 1 to 5"),
        ("s,p,1,Ours1,3,", "lip_sync must be 1 to 5"),
        ("s,p,1,Ours1,3,3\ns,p,2,Ours1,3,3", "line 3: this participant has rated"),
        ("", "holds no ratings"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text(f"study,participant,position,item,visual,lip_sync\n{line}\n")
    with pytest.raises(UserError, match=message) as caught:
        read_ratings([path], KEY)
    assert str(path) in str(caught.value)


def _rate(page: Browser, visual: int, lip_sync: int) -> str:
    """Answer the question that is shown; returns the item."""
    item = page.script("return session.order[session.ratings.length]")
    assert page.script("return document.getElementById('next').disabled")
    page.click(f"input[name=visual][value='{visual}']")
    assert page.script("return document.getElementById('next').disabled")
    page.click(f"input[name=lip_sync][value='{lip_sync}']")
    page.click("#next")
    return str(item)


def _reload(page: Browser, path: Path, position: str) -> None:
    """Reload until the page goes on at ``position``.

    Once is enough for a person. Browsers hand what a page stored from process to process on their own time, and a
    reload milliseconds after the click, on a busy machine, may overtake it for good.
    """
    page.script("return new Promise(done => setTimeout(done, 2000))")
    for _ in range(50):
        page.open(path)
        shown = page.script("return document.getElementById('position').textContent")
        if shown == position:
            return
        time.sleep(0.2)
    if shown == "":  # the page's start: on some machines a browser keeps nothing of a page that is a file
        pytest.skip("this browser lost what the page stored, so there is nothing to go on with")
    raise AssertionError(f"after a reload the page shows {shown!r}, not {position!r}")


def test_clicking_through_in_a_browser(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page_path = make_study(folders, tmp_path / "study", num_videos=2)
    key = json.loads((tmp_path / "study" / "key.json").read_text())
    given: dict[str, tuple[int, int]] = {}
    with browser(tmp_path / "profile") as page:
        page.open(page_path)
        assert page.script("return document.getElementById('rating').hidden")
        page.click("#start")
        assert page.script("return document.getElementById('video').src").startswith("data:video/mp4;base64,")
        for number in range(4):
            if number == 2:
                _reload(page, page_path, "Video 3 of 4")  # loses nothing
            shown = page.script("return session.order[session.ratings.length]")
            scores = (5, 4 - number % 2) if key["items"][shown]["method"] == "Ours" else (2, 1 + number % 2)
            given[_rate(page, *scores)] = scores
        assert page.script("return document.getElementById('rating').hidden")
        text = page.script("return document.getElementById('csv').value")
        page.click("#download")
        participant = page.script("return session.participant")
        saved = tmp_path / "profile" / f"ratings-{participant}.csv"
        page.script("return new Promise(done => setTimeout(done, 1000))")
    assert saved.read_text() == text
    assert set(given) == set(key["items"])
    ratings = read_ratings([saved], key)
    assert {rating.item: tuple(rating.scores.values()) for rating in ratings} == given

    main(["score", str(saved), "--key", str(tmp_path / "study" / "key.json")])
    printed = capsys.readouterr().out
    assert "| Ours | 5.000 | 4.171 |" in printed
    assert "| Wav2Lip | 2.000 | 3.173 |" in printed
    assert "4 opinions of 1 people" in printed
    main(["score", str(saved), "--key", str(tmp_path / "study" / "key.json"), "--format", "latex"])
    assert r"\begin{tabular}{lrrrr}" in capsys.readouterr().out
