"""Pass 2: every frame through the networks and back into the picture, streamed."""

from __future__ import annotations

import itertools
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from videoretalking.core.arrays import AnyImage, Floats32
from videoretalking.core.coefficients import ANGLES, Drive
from videoretalking.core.constants import ENET_SIZE
from videoretalking.core.devices import cpu_threads
from videoretalking.core.errors import UserError
from videoretalking.faces.align import box_crop
from videoretalking.faces.track import select_tracks
from videoretalking.faces.trust import trust
from videoretalking.faces.types import FaceTrack
from videoretalking.media.color import Layout
from videoretalking.media.picture import Picture, as_picture
from videoretalking.media.video import VideoReader
from videoretalking.models.lnet import Painting
from videoretalking.pipeline.analyze import Analysis, RunningAnalysis
from videoretalking.pipeline.config import RenderConfig
from videoretalking.pipeline.jobs import FaceJob, FrameJob
from videoretalking.pipeline.marks import Marks
from videoretalking.pipeline.networks import Networks
from videoretalking.pipeline.raster import Pixels
from videoretalking.pipeline.raster_torch import choose_raster
from videoretalking.pipeline.report import FaceReport, FrameReport
from videoretalking.pipeline.schedule import (
    Decoder,
    GrowingSchedule,
    Schedule,
    frames_in_order,
    make_schedule,
)
from videoretalking.pipeline.speech import Speech
from videoretalking.pipeline.stages.composite import Compositor
from videoretalking.pipeline.stages.detail import LIPS_MARGIN, REDUCTION, keep_detail, lips_mask
from videoretalking.pipeline.stages.enhance import Enhancer
from videoretalking.pipeline.stages.lips import LipColors
from videoretalking.pipeline.stages.lipsync import LipSyncer
from videoretalking.pipeline.stages.mask import FaceMasker
from videoretalking.pipeline.stages.neutralize import DrivingWindows, Neutralizer
from videoretalking.pipeline.stages.rest import AHEAD, RestingMouths
from videoretalking.pipeline.stages.restore import MouthRestorer
from videoretalking.pipeline.stages.sparse_neutralize import SparseNeutralizer
from videoretalking.pipeline.stages.sync import SyncScorer
from videoretalking.pipeline.stages.upper_face import UpperFaceEditor
from videoretalking.pipeline.stream import Stopwatch, chunks, one_behind, threaded

_CHUNK_BYTES = (
    96 << 20
)  # decoded frames that travel together: 16 in 1080p, a GPU's batch; twice where it is roomy
_CHUNK_BYTES_BESIDE = 24 << 20  # likewise where networks work beside each other, each on chunks of its own
_MAX_WORKERS = 4  # threads that composite
_HALF = np.array([[0.5, 0.0, -0.25], [0.0, 0.5, -0.25]])  # pixels of a picture -> of one half as large
_WAITING = 2  # chunks between two small networks: their times vary, and neither is to wait for the other
_CHUNKS_AHEAD = 3  # that pass 1 must know: one is wanted, one may wait, one may be in the decoder's hand


@dataclass(frozen=True)
class RenderedFrame:
    """One finished frame.

    Attributes:
        image: [H, W, 3] uint8 RGB, or the planes that :attr:`Renderer.layout` asks for.
        time: seconds in the output.
        duration: seconds it is shown.
        report: what happened to it.
    """

    image: AnyImage
    time: float
    duration: float
    report: FrameReport


@dataclass(frozen=True)
class _Shown:
    """A decoded frame and when it is shown.

    Attributes:
        picture: the frame.
        index: number of the source frame.
        time: in the output in seconds.
        duration: seconds that it is shown.
    """

    picture: Picture
    index: int
    time: float
    duration: float


@dataclass
class _Chunk:
    """Frames on their way through the networks, and what those made of the faces, all [N, 3, S, S] in [0, 1].

    Attributes:
        jobs: the frames.
        faces: those in all of them; without any nothing else is set.
        original: their crops.
        reference: the same with the expression of the template.
        painting: the faces that speak, at L-Net's size.
    """

    jobs: list[FrameJob]
    faces: list[FaceJob]
    original: torch.Tensor = field(init=False)
    reference: torch.Tensor = field(init=False)
    painting: Painting = field(init=False)


@dataclass(frozen=True)
class _Followed:
    """The faces to edit, as far as they are known.

    Attributes:
        tracks: of the faces.
        numbers: of these tracks among all.
        stretches: of each, [N] first frame of the stretch that each frame lies in.
        trusts: of each, [N] how far the face may be painted in each frame.
    """

    tracks: list[FaceTrack]
    numbers: list[int]
    stretches: list[np.ndarray]
    trusts: list[Floats32]


class Renderer:
    """Renders the frames of one video with one speech.

    Attributes:
        layout: that of :attr:`media.writer.VideoWriter.layout` where frames go to an encoder: they are then brought
            into its form where they are, in parallel, and not one after the other by the writer. None makes RGB.

    Args:
        analysis: pass 1 of the video. If it still goes on, the wanted face must be known already; frames come with
            what is known, and the rest of pass 1 is done between them.
        speech: the driving audio.
        networks: on their device.
        expression: [64] expression template.
        options: settings.
        still_fps: frames a second if the input is a still image.
        drive: how D-Net is driven.
        marks: mark the finished frames; None leaves them unmarked.
        stopwatch: what counts the time of the stages; None for a fresh one.

    Raises:
        UserError: the wanted face does not exist.
    """

    def __init__(
        self,
        analysis: Analysis | RunningAnalysis,
        speech: Speech,
        networks: Networks,
        expression: Floats32,
        options: RenderConfig,
        still_fps: float,
        drive: Drive,
        marks: Marks | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        self.analysis = analysis
        self.layout: Layout | None = None
        self.speech = speech
        self.expression, self.options, self.drive = expression, options, drive
        self.stopwatch = stopwatch or Stopwatch()
        self._still_fps = still_fps
        # where frames come from that are looked at out of turn
        self._scout: Decoder | None = None
        self._at_hand: dict[int, Picture] = {}
        self._engine, self._overlap = networks.engine, networks.overlap
        self._raster = raster = choose_raster(networks.engine.device)
        self._neutralize: Neutralizer | None = None
        rest, self._ahead = None, 0
        if networks.dnet and options.neutralize:
            every = options.neutralize_every
            if drive.from_rest and not options.one_shot:
                rest, self._ahead = RestingMouths(raster, self._fetch), AHEAD
            self._neutralize = (
                SparseNeutralizer(networks.dnet, (), raster, every, rest)
                if every > 1
                else Neutralizer(networks.dnet, (), raster, rest)
            )
        self.follow(analysis.tracks)
        self._lipsync = LipSyncer(networks.lnet, options.least_share)
        self._halve = options.half_size
        self._enhance = Enhancer(networks.enet if options.enhance else None, options.identity_every)
        self._mask = FaceMasker(networks.parser, raster, options.parse_every)
        self._restore = None
        if networks.restorer and options.restore > 0.0:
            self._restore = MouthRestorer(networks.restorer, options.restore, raster)
        self._match_lips = LipColors(raster, options.lip_match) if options.lip_match > 0.0 else None
        self._edit_upper_face = None
        if networks.ganimation and options.upper_face != "original":
            self._edit_upper_face = UpperFaceEditor(networks.ganimation, options.upper_face)
        self._score_sync = SyncScorer(networks.expert) if networks.expert else None
        self._composite = Compositor(self._edit_upper_face is not None, raster, options.color_match)
        self._marks = marks

    def follow(self, tracks: list[FaceTrack]) -> None:
        """Edit the wanted ones of these tracks, which may be longer ones of the faces that were edited so far.

        Raises:
            UserError: the wanted face does not exist.
        """
        options, drive = self.options, self.drive
        wanted = _select(self.analysis.path, tracks, options.face)
        # at once, since other threads may be at the frames that were known before
        self._followed = _Followed(
            wanted,
            [_number(tracks, track) for track in wanted],
            [_stretch_starts(track) for track in wanted],
            [trust(track) if options.keep_profiles else np.ones(len(track), np.float32) for track in wanted],
        )
        if self._neutralize:
            self._neutralize.windows = [
                DrivingWindows(track, self.expression, options.one_shot, drive.length, drive.overshoot)
                for track in wanted
            ]

    @property
    def schedule(self) -> Schedule:
        """Which frame comes when; waits for the end of pass 1."""
        analysis = self.analysis if isinstance(self.analysis, Analysis) else self.analysis.finish()
        still = analysis.info.is_still or len(analysis.times) == 1
        last_duration = 1.0 / self._still_fps if still else analysis.last_duration
        return make_schedule(analysis.times, last_duration, self.speech.duration, self.options.pad)

    @property
    def chunk_size(self) -> int:
        """Frames that travel together."""
        info = self.analysis.info
        lnet = self._lipsync.lnet
        wanted = lnet.batch_size * lnet.batches_at_once
        limit = _CHUNK_BYTES_BESIDE if self._overlap else _CHUNK_BYTES
        if self._raster.roomy:
            wanted, limit = 2 * wanted, 2 * limit
        return max(1, min(wanted, limit // (info.width * info.height * 3)))

    @property
    def _first_chunks(self) -> list[int]:
        """Sizes of the first ones, which are short: a frame waits for the networks of the next chunk."""
        return [min(self._engine.batch_size, self.chunk_size)] * 2

    @property
    def may_wait(self) -> int:
        """Finished frames that may wait for who takes them: a chunk where a GPU begins the next one meanwhile."""
        return self.chunk_size if self._raster.in_batches else 1

    @property
    def expected(self) -> int:
        """Frames of the result, estimated from the header of the video as long as pass 1 goes on."""
        if isinstance(self.analysis, Analysis) or self.analysis.result is not None:
            return len(self.schedule)
        info = self.analysis.info
        return max(info.num_frames, round(self.speech.duration * info.fps))

    def __iter__(self) -> Generator[RenderedFrame, None, None]:
        """Decoding, networks and compositing run beside each other, some chunks apart.

        The last network, and all of them where they do not overlap, run in the thread that iterates. Until its end
        PyTorch has fewer threads there where networks overlap or run on a GPU, and OpenCV one.
        """
        return self._frames()

    def finish(
        self,
        frames: Sequence[tuple[AnyImage, int, float]],
        duration: float,
        ahead: Sequence[tuple[AnyImage, int]] = (),
    ) -> Iterator[RenderedFrame]:
        """Finish frames that are at hand, instead of the video's.

        Args:
            frames: image, number in the tracks, and seconds in the output.
            duration: seconds that each is shown.
            ahead: images and numbers of later frames that the tracks know.
        """
        self._at_hand = {index: as_picture(image) for image, index, _ in frames} | {
            index: as_picture(image) for image, index in ahead
        }
        shown = (_Shown(self._at_hand[index], index, time, duration) for _, index, time in frames)
        with ThreadPoolExecutor(_workers()) as pool:
            for chunk in one_behind(self._paint(self._jobs(chunks(shown, self.chunk_size)), pool)):
                for job, image in chunk:
                    yield RenderedFrame(image.result(), job.time, job.duration, self._report(job.index, job))
        self._at_hand.clear()

    def _frames(self) -> Generator[RenderedFrame, None, None]:
        places = itertools.count()
        order = GrowingSchedule()
        with (
            ExitStack() as stack,
            VideoReader(self.analysis.path) as reader,
            ThreadPoolExecutor(_workers()) as pool,
            closing(
                threaded(self._jobs(chunks(self._decode(reader, order), self.chunk_size, self._first_chunks)))
            ) as decoded,
            closing(order),
        ):
            stack.callback(self._dismiss_scout)
            for chunk in one_behind(self._paint(self._known(decoded, order), pool)):
                for job, image in chunk:
                    yield RenderedFrame(
                        image.result(), job.time, job.duration, self._report(next(places), job)
                    )

    def _known(self, decoded: Iterator[list[FrameJob]], order: GrowingSchedule) -> Iterator[list[FrameJob]]:
        """The decoded chunks, each after pass 1 knows enough for it and for those that are decoded meanwhile."""
        sizes = itertools.chain(self._first_chunks, itertools.repeat(self.chunk_size))
        wanted = self._ahead + sum(itertools.islice(sizes, _CHUNKS_AHEAD - 1))
        while True:
            wanted += next(sizes)
            while not order.complete and order.released < wanted:
                self._release(order)
            chunk = next(decoded, None)
            if chunk is None:
                return
            yield chunk

    def _release(self, order: GrowingSchedule) -> None:
        """Let frames be shown whose faces are known, and go on with pass 1 where there are no more."""
        analysis = self.analysis
        if isinstance(analysis, Analysis):
            order.release_all(self.schedule)
            return
        if analysis.ready <= order.released:
            analysis.go_on()
        self.follow(analysis.tracks)
        if analysis.result is None:
            order.release_until(analysis.ready, analysis.times)
        else:
            order.release_all(self.schedule)

    def _decode(self, reader: VideoReader, order: GrowingSchedule) -> Iterator[_Shown]:
        decoder = Decoder(reader)
        for part in order:
            pictures = map(self._raster.ready, frames_in_order(decoder, part.frames))
            decoded = self.stopwatch.timed("decode", pictures)
            yield from map(
                _Shown, decoded, part.frames.tolist(), part.times.tolist(), part.durations.tolist()
            )

    def _jobs(self, decoded: Iterable[list[_Shown]]) -> Iterator[list[FrameJob]]:
        """Upload the frames of each chunk together; a still image, or one that is held, goes up once."""
        known: dict[int, tuple[Picture, Pixels]] = {}
        for chunk in decoded:
            new = list({id(shown.picture): shown.picture for shown in chunk}.values())
            new = [picture for picture in new if id(picture) not in known]
            with self.stopwatch("upload"):
                known |= {
                    id(picture): (picture, image)
                    for picture, image in zip(new, self._raster.upload(new), strict=True)
                }
            yield [
                self._job(known[id(shown.picture)][1], shown.index, shown.time, shown.duration)
                for shown in chunk
            ]
            last = id(chunk[-1].picture)
            known = {last: known[last]}

    def _fetch(self, numbers: Sequence[int]) -> Iterator[Pixels]:
        """Frames out of turn, in rising order."""
        for number in numbers:
            images = self._raster.upload([self._frame(number)])
            self._raster.receive(images)
            yield from images

    def _frame(self, number: int) -> Picture:
        if self._at_hand:
            return self._at_hand[number]
        if self._scout is None:
            self._scout = Decoder(VideoReader(self.analysis.path))
        return self._scout.frame(number)

    def _dismiss_scout(self) -> None:
        if self._scout is not None:
            self._scout.reader.close()
            self._scout = None

    def _job(self, image: Pixels, index: int, time: float, duration: float) -> FrameJob:
        """What is to be done to source frame ``index``, uploaded, when it is shown at ``time``."""
        followed = self._followed
        faces = [
            FaceJob(
                frame=image,
                track=number,
                index=index,
                stretch=int(followed.stretches[number][index]),
                time=time,
                landmarks=track.landmarks[index],
                crop=box_crop(track.boxes[index], (ENET_SIZE, ENET_SIZE)),
                trust=float(followed.trusts[number][index]),
            )
            for number, track in enumerate(followed.tracks)
            if track.present[index]
        ]
        return FrameJob(image, index, time, duration, faces)

    def _paint(
        self, stream: Iterable[list[FrameJob]], pool: ThreadPoolExecutor
    ) -> Iterator[list[tuple[FrameJob, Future[AnyImage]]]]:
        with closing(self._run_networks(stream)) as painted:
            for jobs in painted:
                if self._raster.in_batches:
                    finished = self._raster.download(self._finish(jobs), self.layout)
                    yield [(job, pool.submit(fetch)) for job, fetch in zip(jobs, finished, strict=True)]
                else:
                    yield [(job, pool.submit(self._finish_alone, job)) for job in jobs]

    def _run_networks(self, stream: Iterable[list[FrameJob]]) -> Generator[list[FrameJob], None, None]:
        """The chain of the paper: neutralize, lipsync, enhance; then the mouth restorer.

        Small networks on a CPU work beside each other, each on a chunk of its own: threads that share a small
        network wait for each other at every layer, for a third of their time.
        """
        work: Iterable[_Chunk] = map(self._begin, stream)
        *first, last = (self._run_dnet, self._run_lnet, self._run_enet)
        with ExitStack() as stack:
            on_gpu = self._raster.in_batches  # what is left for the CPU there is too little to be shared
            if self._overlap or on_gpu:
                stack.enter_context(cpu_threads(1 if on_gpu else torch.get_num_threads() // (len(first) + 1)))
                stack.callback(cv2.setNumThreads, cv2.getNumThreads())
                cv2.setNumThreads(1)
            for step in first:
                work = map(step, work)
                if self._overlap:
                    work = stack.enter_context(closing(threaded(work, _WAITING)))
            for chunk in map(last, work):
                yield chunk.jobs

    def _begin(self, jobs: list[FrameJob]) -> _Chunk:
        self._raster.receive([job.frame for job in jobs])
        faces = [face for job in jobs for face in job.faces]
        if self._halve and all((np.diag(face.crop.matrix) >= 2.0).all() for face in faces):
            for face in faces:
                face.crop = face.crop.then(_HALF, (ENET_SIZE // 2, ENET_SIZE // 2))
        else:
            self._halve = False  # for good, since a size that changes again and again would flicker
        return _Chunk(jobs, faces)

    def _run_dnet(self, chunk: _Chunk) -> _Chunk:
        """Cut the faces, and make L-Net's references of them."""
        if not chunk.faces:
            return chunk
        raster, faces = self._raster, chunk.faces
        with self.stopwatch("crop"):
            crops = raster.cut([face.frame for face in faces], [face.crop for face in faces])
            chunk.original = raster.tensor(crops)
        if self._edit_upper_face:
            with self.stopwatch("upper face"):
                chunk.original = self._edit_upper_face(chunk.original)
        chunk.reference = chunk.original
        if self._neutralize:
            with self.stopwatch("neutralize"):
                chunk.reference = raster.tensor(self._neutralize(faces, crops))
        return chunk

    def _run_lnet(self, chunk: _Chunk) -> _Chunk:
        """Let the faces speak."""
        if not chunk.faces:
            return chunk
        with self.stopwatch("lipsync"):
            audio = self.speech.windows([face.time for face in chunk.faces])
            chunk.painting = self._lipsync(audio, chunk.original, chunk.reference)
        if self._score_sync:
            with self.stopwatch("sync score"):
                self._score_sync(chunk.faces, chunk.painting.image, audio)
        return chunk

    def _run_enet(self, chunk: _Chunk) -> _Chunk:
        """Enlarge and restore the faces, and segment them."""
        if not chunk.faces:
            return chunk
        faces = chunk.faces
        # Differs from published inference: E-Net takes the identity from the frame itself, which is sharp; the
        # published program takes it from D-Net's image after restoring that with GPEN.
        with self.stopwatch("enhance"):
            patches = self._enlarge(faces, chunk.painting, chunk.original, chunk.reference)
        # Before the restorer, which changes the mouth only: one parse serves both masks.
        with self.stopwatch("mask"):
            masks = self._mask(faces, patches)
        if self._restore:
            with self.stopwatch("restore"):
                patches = self._restore(faces, patches, masks.mouth)
        if self._match_lips:
            with self.stopwatch("lips"):
                patches = self._match_lips(faces, patches, chunk.original)
        for face, patch, mask in zip(faces, patches, masks.face, strict=True):
            face.patch, face.mask = patch, mask
        return chunk

    def _enlarge(
        self, faces: Sequence[FaceJob], painting: Painting, original: torch.Tensor, reference: torch.Tensor
    ) -> Pixels:
        """[N, S, S, 3] the faces at the size of the crops: E-Net's lips, and what else has changed."""
        raster = self._raster
        if painting.share is None:
            return raster.pixels(self._enhance(faces, painting.image, original))
        low, side = painting.image.shape[-1], original.shape[-1]
        points = [face.crop.to_crop(face.landmarks) for face in faces]
        scaled = [(found + 0.5) * (REDUCTION * low / side) - 0.5 for found in points]
        lips = lips_mask(raster, scaled, low, LIPS_MARGIN)
        share = torch.maximum(painting.share, raster.tensor(lips[..., None]))
        image = self._enhance(faces, painting.image, original, share)
        known = painting.known(original, reference)
        enhanced = replace(painting, image=image, share=share).on(known)
        return keep_detail(raster, raster.pixels(enhanced), raster.pixels(known), points)

    def _finish_alone(self, job: FrameJob) -> AnyImage:
        images = self._finish([job])
        with self.stopwatch("download"):
            (fetch,) = self._raster.download(images, self.layout)
            return fetch()

    def _finish(self, jobs: Sequence[FrameJob]) -> list[Pixels]:
        """The frames with their new faces and, where wanted, their marks."""
        painted = None
        if self._marks is not None and self._marks.marks_painted_only:
            painted = [self._raster.zeros(*job.frame.shape[:2]) if job.faces else None for job in jobs]
        with self.stopwatch("composite"):
            images = self._composite([job.frame for job in jobs], [job.faces for job in jobs], painted)
        if self._marks is None:
            return images
        with self.stopwatch("watermark"):
            return self._marks.mark_frames(images, painted)

    def _report(self, place: int, job: FrameJob) -> FrameReport:
        return FrameReport(
            index=place,
            source=job.index,
            time=round(job.time, 6),
            speech=round(self.speech.activity(job.time), 3),
            faces=tuple(self._face_report(face) for face in job.faces),
        )

    def _face_report(self, face: FaceJob) -> FaceReport:
        track = self._followed.tracks[face.track]
        pitch, yaw, roll = np.degrees(track.rows[face.index, ANGLES]).round(2).tolist()
        score = float(track.scores[face.index])
        fallbacks = ["interpolated landmarks"] if score == 0.0 else []
        if face.trust < 1.0:
            fallbacks.append("nearly in profile, keeps its pixels" + (" in part" if face.trust > 0.0 else ""))
        return FaceReport(
            face=self._followed.numbers[face.track],
            score=round(score, 3),
            pose=(pitch, yaw, roll),
            sync=None if face.sync is None else round(float(face.sync), 4),
            fallback="; ".join(fallbacks),
        )


def _workers() -> int:
    return min(_MAX_WORKERS, os.cpu_count() or 1)


def _select(path: Path, tracks: list[FaceTrack], choice: str) -> list[FaceTrack]:
    try:
        return select_tracks(tracks, choice)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _number(tracks: Sequence[FaceTrack], wanted: FaceTrack) -> int:
    return next(number for number, track in enumerate(tracks) if track is wanted)


def _stretch_starts(track: FaceTrack) -> np.ndarray:
    """[N] first frame of the stretch that each frame lies in, -1 where the face is absent."""
    starts = np.full(len(track), -1, dtype=np.int64)
    for span in track.present_slices():
        starts[span] = span.start
    return starts
