from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from videoretalking.core.devices import DTYPES
from videoretalking.core.errors import UserError
from videoretalking.media.formats import CODECS
from videoretalking.pipeline.config import PRESETS, InferenceConfig
from videoretalking.pipeline.flags import FLAGS, GROUPS, REPLACED, parse

NEEDED = ["--face", "v.mp4", "--audio", "a.wav"]


def test_defaults_are_those_of_the_config() -> None:
    job = parse(NEEDED)
    assert (job.face, job.audio, job.outfile) == ("v.mp4", "a.wav", "results/output.mp4")
    assert job.config == InferenceConfig()


def test_every_flag_of_the_published_program_is_accepted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    line = (
        "--face v.mp4 --audio a.wav --outfile o.mp4 --DNet_path d --LNet_path l --ENet_path e "
        "--face3d_net_path r --exp_img smile --up_face surprise --fps 30 --pads 0 20 0 0 "
        "--face_det_batch_size 4 --LNet_batch_size 16 --img_size 384 --crop 0 -1 0 -1 --box -1 -1 -1 -1 "
        "--nosmooth --static --one_shot --without_rl1 --tmp_dir temp --re_preprocess"
    )
    job = parse(line.split())
    config = job.config
    assert (config.weights.dnet, config.weights.lnet, config.weights.enet, config.weights.reconnet) == tuple(
        "dler"
    )
    assert (config.render.expression, config.render.upper_face, config.render.one_shot) == (
        "smile",
        "surprise",
        True,
    )
    assert (config.analysis.still, config.analysis.still_fps, config.analysis.smooth) == (True, 30.0, False)
    assert config.analysis.region == (0, -1, 0, -1)
    assert (config.runtime.batch_size, config.runtime.cache_dir, config.runtime.refresh) == (16, "temp", True)
    explained = [record.getMessage() for record in caplog.records]
    assert sorted(text.split()[0] for text in explained) == [
        "--box",
        "--face-det-batch-size",
        "--img-size",
        "--pads",
        "--without-rl1",
    ]


def test_flags_of_wav2lip_are_accepted_too() -> None:
    line = (
        "--checkpoint_path w.pth --face v.mp4 --audio a.wav --static True --wav2lip_batch_size 128 "
        "--resize_factor 2 --rotate --pads 0 10 0 0"
    )
    config = parse(line.split()).config
    assert config.weights.lnet == "w.pth"
    assert config.analysis.still is True
    assert config.runtime.batch_size == 128


@pytest.mark.parametrize("spelling", ["--one-shot", "--one_shot", "--ONE_shot", "--one_shot=true"])
def test_dashes_underscores_and_case(spelling: str) -> None:
    assert parse([*NEEDED, spelling]).config.render.one_shot is True


def test_switches_can_be_negated_and_values_keep_their_case() -> None:
    config = parse([*NEEDED, "--one_shot", "False", "--no_enhance", "--nosmooth", "false"]).config
    assert (config.render.one_shot, config.render.enhance, config.analysis.smooth) == (False, False, True)
    assert parse(["--face=A_b.MP4", "--audio", "--x_Y.wav".strip("-")]).face == "A_b.MP4"


def test_single_flags_outrank_preset_and_preset_outranks_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("output: {quality: 30, codec: hevc}\nrender: {pad: cut}\n")
    config = parse([*NEEDED, "--config", str(path), "--preset", "fast", "--pad", "hold"]).config
    assert config.output.quality == PRESETS["fast"]["output.quality"]
    assert config.output.codec == "hevc"
    assert config.render.pad == "hold"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--face and --audio"),
        (["--face", "v.mp4"], "--face and --audio"),
        ([*NEEDED, "--batch", "x.csv"], "leave --face"),
        ([*NEEDED, "--cluster", "ray"], "jobs of --batch"),
        ([*NEEDED, "--no-such-flag", "1"], "unknown flag --no-such-flag"),
        ([*NEEDED, "--face_idx", "1"], "unknown flag --face-idx, did you mean --face-index?"),
        ([*NEEDED, "--pad=hold", "more"], "unexpected more"),
        ([*NEEDED, "--pad", "sideways"], "--pad cannot be sideways, choose loop, pingpong, hold, cut"),
        ([*NEEDED, "--preset", "ultra"], "fast, balanced, best"),
        ([*NEEDED, "--static", "maybe"], "maybe"),
        ([*NEEDED, "--up-face", "happy"], "--up-face cannot be happy, choose original"),
        ([*NEEDED, "--config", "absent.yaml"], "absent.yaml"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        parse(arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "mistake",
    [
        *("--fps fast", "--fps 0", "--fps -1", "--fps nan", "--fps inf", "--fps 1e-9", "--fps 1e9"),
        *("--batch-size -5", "--batch-size 1.5", "--batch-size 99999999999999999999"),
        *(
            "--restore 1.1",
            "--restore nan",
            "--color-match -0.1",
            "--color-match nan",
            "--lip-match 2",
            "--exp-blend nan",
        ),
        *("--quality -5", "--quality 64", "--quality 99999999999999999999"),
        *("--face-index ²", "--face-index -1", "--face-index first", "--crop 0 -2 0 -1"),
        *("--device meta", "--device cpu:7", "--device cuda:x", "--dtype float8", "--codec divx"),
        *("--face-backend s3fd", "--up-face glad"),
    ],
)
def test_values_out_of_range_are_one_line_that_names_the_flag(mistake: str) -> None:
    with pytest.raises(UserError, match=mistake.split()[0]) as caught:
        parse([*NEEDED, *mistake.split()])
    text = str(caught.value)
    assert "\n" not in text and "Parser" not in text and "typing" not in text


def test_settings_files_follow_the_same_rules(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("render: {restore: 7.0}\n")
    with pytest.raises(UserError, match=r"settings\.yaml: render\.restore cannot be 7\.0, choose 0 to 1"):
        parse([*NEEDED, "--config", str(path)])
    assert parse([*NEEDED, "--config", str(path), "--restore", "0.5"]).config.render.restore == 0.5


def test_the_choices_are_those_of_what_reads_them() -> None:
    rules = {flag.key: flag.rule for flag in FLAGS}
    for key, words in {"runtime.dtype": ["auto", *DTYPES], "output.codec": list(CODECS)}.items():
        rule = rules[key]
        assert rule is not None and rule.words == ", ".join(words)


def test_help_shows_defaults_and_choices_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    for words in (
        *(f"{group}: --" for group in GROUPS),
        "loop, pingpong, hold, cut (default: pingpong)",
        "original, sad, angry, surprise (default: original)",
        "0 to 1 (default: 1.0)",
        "(default: visually lossless)",
        "examples:",
    ):
        assert words in text
    assert "--pads" not in text  # has nothing to do here


def test_every_flag_sets_an_existing_key_once() -> None:
    keys = [flag.key for flag in FLAGS]
    assert len(keys) == len(set(keys))
    for key in [*keys, *(key for preset in PRESETS.values() for key in preset)]:
        group, name = key.split(".")
        assert hasattr(getattr(InferenceConfig(), group), name), key
    assert not {name for flag in FLAGS for name in flag.names} & set(REPLACED)
