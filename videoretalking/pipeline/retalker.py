"""The main job from Python: any talking-head video and any speech in, a lip-synced video out."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.core.config import to_dict
from videoretalking.core.errors import UserError
from videoretalking.core.files import check_output
from videoretalking.core.hub import fetch_folder
from videoretalking.core.locations import user_folder
from videoretalking.core.workers import usable_cpus
from videoretalking.faces.types import FaceTrack
from videoretalking.media.audio import audio_info
from videoretalking.media.formats import SPEEDS
from videoretalking.media.video import VideoInfo, VideoReader, VideoWriter
from videoretalking.pipeline.analyze import (
    Analysis,
    FaceTools,
    RunningAnalysis,
    begin_analysis,
    find_pieces,
    make_tracker,
)
from videoretalking.pipeline.apart import PassOne, begin_apart, find_apart, find_beside
from videoretalking.pipeline.config import InferenceConfig
from videoretalking.pipeline.engine import Engine
from videoretalking.pipeline.expression import choose_expression
from videoretalking.pipeline.live import LOOK_AHEAD, LiveShot, finished_frames
from videoretalking.pipeline.making import check_provenance, sign_result
from videoretalking.pipeline.marks import Marks
from videoretalking.pipeline.networks import Networks, load_networks
from videoretalking.pipeline.render import RenderedFrame, Renderer
from videoretalking.pipeline.report import Report
from videoretalking.pipeline.speech import Speech, load_speech, speech_of
from videoretalking.pipeline.stream import Stopwatch, in_background
from videoretalking.pipeline.weights import PretrainedFaceTools, Weights, choose_weights

logger = logging.getLogger(__name__)

_MANY_CPUS = 32  # with fewer, the encoder's preset "veryfast" holds back a fast GPU


class Retalker:
    """Dubs videos; networks are loaded once and serve any number of them.

    Example::

        retalker = Retalker.from_pretrained()  # or a folder, or owner/name on the Hugging Face hub
        report = retalker.dub("speaker.mp4", "speech.wav", "dubbed.mp4")

        analysis = retalker.analyze("speaker.mp4")
        for frame in retalker.frames(analysis, "speech.wav"):
            show(frame.image, frame.time)

    Args:
        config: all settings.
        weights: the checkpoints.
        networks: of pass 2.
        tools: of pass 1.
        pass_1: a process with the same tools; None leaves pass 1 to this one.

    Attributes:
        in_turn: finish pass 1 before pass 2 begins, as for measurements.
        stopwatch: what counts the time of all stages of :meth:`dub` (the benchmark's); None gives each rendering
            one of its own.
    """

    def __init__(
        self,
        config: InferenceConfig,
        weights: Weights,
        networks: Networks,
        tools: FaceTools,
        pass_1: PassOne | None = None,
    ) -> None:
        self.config = config
        self.weights = weights
        self.networks = networks
        self.tools = tools
        self.pass_1 = pass_1
        self.in_turn = False
        self.stopwatch: Stopwatch | None = None

    @classmethod
    def from_pretrained(
        cls, source: str | Path | InferenceConfig | None = None, config: InferenceConfig | None = None
    ) -> Retalker:
        """Load weights: the converted official ones where they are, else the bundled ones.

        Args:
            source: where the weights come from instead: a folder, or ``owner/name`` on the Hugging Face hub.
                Settings alone may stand here as well.
            config: settings; None takes the defaults.

        Raises:
            UserError: missing or damaged weights, or a device that is not there.
        """
        if isinstance(source, InferenceConfig):
            source, config = None, source
        config = config or InferenceConfig()
        if source is not None:
            weights_config = replace(config.weights, family=str(fetch_folder(source)))
            config = replace(config, weights=weights_config)
        weights = choose_weights(config.weights, networks=config.render.networks)
        engine = Engine.from_config(config.runtime)
        tools = PretrainedFaceTools(weights, config.analysis.backend, engine.device)
        pass_1 = begin_apart(tools, engine.device)
        networks = load_networks(weights, config.render, engine)
        return cls(config, weights, networks, tools, pass_1)

    def analyze(self, video: str | Path) -> Analysis:
        """Pass 1: track the faces of a video or image, or fetch them from the cache.

        Raises:
            UserError: unreadable video.
        """
        with closing(self._begin(video)) as running:
            return running.finish()

    def frames(
        self, video: Analysis | str | Path, audio: str | Path, marks: Marks | None = None
    ) -> Iterator[RenderedFrame]:
        """Pass 2 as a stream of finished frames, without writing a file.

        Args:
            video: a path, or what :meth:`analyze` returned, which many speeches can share. From a path frames come
                while pass 1 goes on, as in :meth:`dub`.
            audio: file with the speech.
            marks: mark the frames, as with ``Marks.from_config(OutputConfig())``; None leaves them unmarked
                whatever the settings say, since a stream is no result yet.

        Raises:
            UserError: unusable input, or no face in the video.
        """
        speech = self._speech(audio)
        with closing(_known(video) if isinstance(video, Analysis) else self._begin(video)) as running:
            self._await_face(running)
            if marks is not None:
                marks.fit(self._output_info(running.info))
            yield from self._renderer(running, speech, marks)

    def stream(
        self,
        frames: Iterable[Image8],
        speech: npt.ArrayLike,
        fps: float = 25.0,
        look_ahead: int = LOOK_AHEAD,
    ) -> Iterator[RenderedFrame]:
        """Both passes over frames that come one after the other: each finished one as soon as it can be had.

        Frame ``i`` comes after frame ``i + look_ahead`` was taken, or earlier: with the end of its shot or of the
        stream. Shots of at most ``look_ahead`` frames become what the two passes make of them. In longer ones the
        choice of the face and the identity of the bundled face model follow from the first ``look_ahead + 1``
        frames (:mod:`pipeline.live`). The stream ends with its frames, whatever ``render.pad`` says, nothing is
        marked, and without a face all frames pass through. Memory holds ``look_ahead`` frames, and about 3 kB for
        each frame and face of the shot.

        Example::

            with VideoReader("speaker.mp4") as video:
                images = (frame.image for frame in video)
                for frame in retalker.stream(images, load_waveform("speech.wav"), fps=25.0):
                    show(frame.image, frame.time)

        Args:
            frames: [H, W, 3] uint8 RGB, all of one size; frame ``i`` is shown at ``i / fps`` seconds.
            speech: [n] samples at 16 kHz in [-1, 1], which begin with the first frame.
            fps: frames a second.
            look_ahead: frames that may be seen before one is finished, at least 2; below 40 the windows of D-Net
                and the smoothing end early.

        Raises:
            UserError: frames, speech or numbers that cannot be used.
        """
        wave = np.asarray(speech, dtype=np.float32)
        if wave.ndim != 1 or len(wave) == 0 or not np.isfinite(wave).all():
            raise UserError("the speech of a stream must be finite samples in one dimension, mono at 16 kHz")
        if fps <= 0 or look_ahead < 2:
            raise UserError(
                f"a stream needs fps above 0 and a look-ahead of 2 or more, got {fps} and {look_ahead}"
            )
        heard = speech_of(wave, self.config.render.silence_gate)
        detector, reconstructor = self.tools.load()
        expression = choose_expression(self.config.render, self.weights.templates, self.tools)

        def new_shot(start: int, size: tuple[int, int]) -> LiveShot:
            def make_renderer(tracks: list[FaceTrack]) -> Renderer | None:
                choice = self.config.render.face
                if not tracks or (choice.isdigit() and int(choice) >= len(tracks)):
                    return None
                info = VideoInfo(*size, fps=Fraction(fps).limit_denominator(1001))
                analysis = Analysis(
                    Path("the stream"), info, tracks[0].times, 1 / fps, tracks, "", cached=False
                )
                return self._renderer(analysis, heard, None, expression)

            tracker, regressor = make_tracker(self.config.analysis, detector, reconstructor)
            return LiveShot(tracker, regressor, reconstructor, make_renderer, start, 1 / fps)

        yield from finished_frames(frames, fps, look_ahead, new_shot)

    def render(self, analysis: Analysis, audio: str | Path | Speech, outfile: str | Path) -> Report:
        """Pass 2 into a file, with the marks and the manifest that the settings of the output want.

        Args:
            analysis: pass 1 of the video.
            audio: file with the speech, which becomes the sound of the result, or what was loaded from it.
            outfile: result; the suffix chooses the container.

        Returns:
            What happened to every frame.

        Raises:
            UserError: unusable input, no face in the video, or a place that cannot be written to.
        """
        sound = audio.path if isinstance(audio, Speech) else audio
        check_output(outfile, "the result", {"the video": analysis.path, "the sound": sound})
        check_provenance(self.config.output, outfile)
        speech = audio if isinstance(audio, Speech) else self._speech(audio)
        with closing(_known(analysis)) as running:
            return self._render(running, speech, outfile)

    def _render(self, running: RunningAnalysis, speech: Speech, outfile: str | Path) -> Report:
        """:meth:`render`, with what pass 1 still has to do."""
        started = time.monotonic() - running.seconds
        output = self.config.output
        marks = Marks.from_config(output)
        self._await_face(running)
        with self._timed("prepare"):
            renderer = self._renderer(running, speech, marks)
        report = self._new_report(running, speech.path, outfile)
        seconds = speech.duration
        if self.config.render.pad == "cut":
            seconds = min(seconds, renderer.schedule.duration)
        info = self._output_info(running.info)
        if marks is not None:
            marks.fit(info, audio_info(speech.path), seconds)
            report.mark = marks.describe()
            report.notes += marks.notes
        writer = VideoWriter(
            outfile,
            info,
            codec=output.codec,
            crf=output.quality,
            preset=self._encoder_speed,
            audio=speech.path,
            audio_filter=None if marks is None else marks.sound_filter,
            **({"audio_span": (0.0, seconds)} if seconds < speech.duration else {}),
        )

        renderer.layout = writer.layout
        write = writer.write if writer.layout is None else writer.write_planes

        def encode(frame: RenderedFrame) -> None:
            with renderer.stopwatch("encode"):
                write(frame.image, frame.time, frame.duration)

        with writer:
            with (
                closing(iter(renderer)) as frames,
                in_background(encode, renderer.may_wait) as hand_over,
            ):
                bar = tqdm(frames, "pass 2 of 2: render", renderer.expected, unit="frame", delay=2.0)
                for frame in bar:
                    hand_over(frame)
                    report.frames.append(frame.report)
            with renderer.stopwatch("encode"):  # what the encoder still holds
                writer.close()
        if output.manifest:
            self._sign(report, None if marks is None else marks.payload.text)
        report.seconds["analyze"] = round(running.seconds, 3)
        report.seconds["render"] = round(time.monotonic() - started - running.seconds, 3)
        report.stages = {stage: round(busy, 3) for stage, busy in renderer.stopwatch.seconds.items()}
        return report

    def dub(self, video: str | Path, audio: str | Path, outfile: str | Path) -> Report:
        """Both passes.

        Pass 2 begins with the first frames whose faces are known for good, while pass 1 goes on: with the end of
        the first shot, or after the first seconds of a long one (:mod:`faces.pieces`). It waits for the end of
        pass 1 where the settings need it: another face than the largest, one-shot mode, and ``cut``.

        Args:
            video: video or image with a face.
            audio: file with the speech.
            outfile: result.

        Returns:
            What happened to every frame.

        Raises:
            UserError: unusable input, no face in the video, or a place that cannot be written to.
        """
        with self._timed("prepare"):
            speech = self._speech(audio)
            self._check(video, audio, outfile)
        with closing(self._begin(video)) as running:
            report = self._render(running, speech, outfile)
        summary = report.summary()
        logger.info(
            "%s: %d frames, %d passed through%s; %.1f + %.1f s",
            outfile,
            summary["frames"],
            summary["frames_untouched"],
            f" ({summary['untouched']})" if summary["untouched"] else "",
            report.seconds["analyze"],
            report.seconds["render"],
        )
        return report

    def _begin(self, video: str | Path) -> RunningAnalysis:
        """Pass 1, which on a CPU goes on when it is asked: both passes use all cores there, in turns."""
        runtime = self.config.runtime
        cache_dir = Path(runtime.cache_dir) if runtime.cache_dir else user_folder() / "tracks"
        find = find_pieces
        if not self.in_turn:
            if self.pass_1 is not None:
                find = partial(find_apart, self.pass_1)
            elif self.networks.engine.device.type != "cpu":
                find = find_beside
        timed = partial(self._timed, "analyze")
        return begin_analysis(
            video, self.config.analysis, self.tools, cache_dir, runtime.refresh, find, timed
        )

    def _await_face(self, running: RunningAnalysis) -> None:
        """Go on with pass 1 until pass 2 can begin, or to its end."""
        render = self.config.render
        # Other faces than the largest may come at any time; the ratio of the one-shot mode is that of a whole shot,
        # and the sound of a video that ends with the shorter of both is cut before it is written.
        whole = render.face not in ("largest", "0") or render.one_shot or render.pad == "cut"
        if self.in_turn or whole:
            running.finish()
        while running.result is None and not running.tracks:
            running.go_on()

    def _timed(self, stage: str) -> AbstractContextManager[None]:
        return nullcontext() if self.stopwatch is None else self.stopwatch(stage)

    def _sign(self, report: Report, mark: str | None) -> None:
        inputs = {"face": report.face, "audio": report.audio}
        sign_result(report.outfile, self.config, inputs, report.weights, mark, self.weights.family)

    def _speech(self, audio: str | Path) -> Speech:
        return load_speech(audio, self.config.render.silence_gate)

    def _renderer(
        self,
        analysis: Analysis | RunningAnalysis,
        speech: Speech,
        marks: Marks | None,
        expression: Floats32 | None = None,
    ) -> Renderer:
        render = self.config.render
        if expression is None:
            expression = choose_expression(render, self.weights.templates, self.tools)
        if isinstance(analysis, RunningAnalysis) and analysis.result is not None:
            analysis = analysis.result
        return Renderer(
            analysis,
            speech,
            self.networks,
            expression,
            render,
            self.config.analysis.still_fps,
            self.weights.drive,
            marks,
            self.stopwatch,
        )

    def _check(self, video: str | Path, audio: str | Path, outfile: str | Path) -> None:
        """Find mistakes in files and settings before the long work begins."""
        check_output(outfile, "the result", {"the video": video, "the sound": audio})
        check_provenance(self.config.output, outfile)
        with VideoReader(video) as reader:
            info = self._output_info(reader.info)
        output = self.config.output
        writer = VideoWriter(
            outfile, info, codec=output.codec, crf=output.quality, preset=self._encoder_speed
        )
        with suppress(_Discard), writer:
            raise _Discard

    @property
    def _encoder_speed(self) -> str:
        speed = self.config.output.speed
        if speed in SPEEDS:
            return speed
        if speed != "auto":
            raise UserError(f"unknown encoder preset {speed!r}, choose auto, {', '.join(SPEEDS)}")
        if self.networks.engine.device.type != "cuda":
            return "medium"
        return "veryfast" if usable_cpus() >= _MANY_CPUS else "superfast"

    def _output_info(self, info: VideoInfo) -> VideoInfo:
        if not info.is_still:
            return info
        return replace(info, fps=Fraction(self.config.analysis.still_fps).limit_denominator(1001))

    def _new_report(self, running: RunningAnalysis, audio: str | Path, outfile: str | Path) -> Report:
        cached = running.result is not None and running.result.cached
        return Report(
            face=str(running.path),
            audio=str(audio),
            outfile=str(outfile),
            weights=self.weights.describe(),
            family=self.weights.family,
            backend=running.tracks[0].backend if running.tracks else "",
            settings=to_dict(self.config),
            notes=["face tracks came from the cache"] if cached else [],
        )


def _known(analysis: Analysis) -> RunningAnalysis:
    """What was found, as a pass 1 that has nothing left to do."""
    return RunningAnalysis(analysis.path, analysis.info, result=analysis)


class _Discard(Exception):  # noqa: N818 - a signal, not an error
    """Leaves a writer without keeping its file."""
