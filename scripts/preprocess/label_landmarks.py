"""Label videos and pictures with the 478-point face mesh and the 68-point iBUG scheme.

The labels train the bundled landmark network and the linear face model; nothing else in the project
needs them. The mesh comes from MediaPipe, whose wheel carries its weights (Apache-2.0) but pins an old
NumPy, so this one script runs in an environment of its own, from the root of the project::

    python3 -m venv labels-env
    labels-env/bin/pip install "mediapipe==0.10.21" "numpy<2" opencv-python-headless av
    labels-env/bin/python -m scripts.preprocess.label_landmarks --root MEDIA --output data/labels \
        --folders clips portraits

One ``.npz`` per file is written below ``--output`` with the relative path of its source; files that are there
already are left alone, so an interrupted run continues. Keys (T frames in presentation order):

===========  ==================  ==================================================================
``points``   [T, 68, 2] float32  iBUG points, pixels, centers at integer coordinates
``mesh``     [T, 478, 3] float32 raw mesh, pixels; z grows away from the camera, in units of x
``found``    [T] bool            whether a face was found; rows of the other frames are zero
``time``     [T] float64         seconds
``size``     [2] int64           width, height
===========  ==================  ==================================================================
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.core.workers import Place, run_locally
from videoretalking.media.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

logger = logging.getLogger(__name__)

# The face oval of the mesh from the subject's right temple over the chin (152) to the left temple. Our 17 jaw
# points are spread over it by arc length, because its vertices are not where iBUG puts them. They are points
# of the head, not of the visible outline: in a turned face the far ones lie inside the picture of the face.
_OVAL = (
    127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152,
    377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356,
)  # fmt: skip
_CHIN = _OVAL.index(152)

# iBUG 17..67: brows, nose ridge, nose base, eyes, outer lips, inner lips; "right" is the subject's right.
_VERTICES = (
    70, 63, 105, 66, 107,  # right brow, outside in
    336, 296, 334, 293, 300,  # left brow, inside out
    168, 197, 5, 4,  # nose ridge, root to tip
    98, 97, 2, 326, 327,  # nose base, right to left
    33, 160, 158, 133, 153, 144,  # right eye, from its outer corner over the upper lid
    362, 385, 387, 263, 373, 380,  # left eye, from its inner corner over the upper lid
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # outer lips, from the right corner over the top
    78, 82, 13, 312, 308, 317, 14, 87,  # inner lips, likewise
)  # fmt: skip


def mesh_to_ibug(mesh: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The 68 iBUG points of a face mesh.

    Args:
        mesh: [478, 3] (or the first 468 vertices of it); any unit that is the same on all axes.

    Returns:
        [68, 3] in the same unit.
    """
    right = _spread(mesh[list(_OVAL[: _CHIN + 1])], 9)
    left = _spread(mesh[list(_OVAL[_CHIN:])], 9)
    return np.concatenate([right, left[1:], mesh[list(_VERTICES)]]).astype(np.float32)


def _spread(line: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """``count`` points at equal arc length along a polyline [N, 3], both ends included."""
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    position = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.linspace(0.0, position[-1], count)
    return np.stack([np.interp(wanted, position, line[:, axis]) for axis in range(3)], axis=1)


def read_frames(path: Path) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
    """Time in seconds and RGB uint8 [H, W, 3] of every frame of a video, or of the one frame of a picture."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        import cv2

        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise UserError(f"cannot read picture {path}")
        yield 0.0, np.ascontiguousarray(picture[:, :, ::-1]).astype(np.uint8)
        return
    import av

    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            rgb = frame.to_ndarray(format="rgb24")
            yield float(frame.time or 0.0), np.rot90(rgb, k=frame.rotation // 90).astype(np.uint8)


def label_file(path: Path, target: Path) -> int:
    """Label one file and write its ``.npz`` atomically.

    Args:
        path: video or picture.
        target: the ``.npz`` to write.

    Returns:
        Number of frames in which a face was found.
    """
    import mediapipe

    still = path.suffix.lower() in IMAGE_SUFFIXES
    meshes: list[npt.NDArray[np.float32]] = []
    times: list[float] = []
    found: list[bool] = []
    size = (0, 0)
    with mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=still, max_num_faces=1, refine_landmarks=True, min_detection_confidence=0.3
    ) as network:
        for time, frame in read_frames(path):
            size = (frame.shape[1], frame.shape[0])
            faces = network.process(np.ascontiguousarray(frame)).multi_face_landmarks
            found.append(bool(faces))
            meshes.append(_mesh_array(faces[0], size) if faces else np.zeros((478, 3), np.float32))
            times.append(time)
    mesh = np.stack(meshes)
    points = np.stack([mesh_to_ibug(row)[:, :2] for row in mesh])
    with atomic_path(target) as temporary:
        np.savez_compressed(
            temporary,
            points=points.astype(np.float32),
            mesh=mesh,
            found=np.array(found),
            time=np.array(times),
            size=np.array(size, np.int64),
        )
    return sum(found)


def _mesh_array(face: Any, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """MediaPipe's relative coordinates (pixel edges at integers) -> pixels with centers at integers."""
    width, height = size
    relative = np.array([[point.x, point.y, point.z] for point in face.landmark], np.float32)
    return (relative * (width, height, width) - (0.5, 0.5, 0.0)).astype(np.float32)


def contact_sheet(path: Path, labels: Path, columns: int = 4, height: int = 320) -> npt.NDArray[np.uint8]:
    """A strip of evenly spaced labeled frames with the 68 points drawn, to be looked at.

    Args:
        path: the labeled source.
        labels: its ``.npz``.
        columns: frames in the strip.
        height: height of the strip in pixels.

    Returns:
        RGB uint8 [height, W, 3].
    """
    import cv2

    with np.load(labels) as archive:
        points, found = archive["points"], archive["found"]
    chosen = set(np.linspace(0, len(points) - 1, min(columns, len(points))).round().astype(int).tolist())
    tiles = []
    for index, (_, frame) in enumerate(read_frames(path)):
        if index not in chosen:
            continue
        scale = height / frame.shape[0]
        tile = cv2.resize(frame, (round(frame.shape[1] * scale), height), interpolation=cv2.INTER_AREA)
        for x, y in (points[index] + 0.5) * scale - 0.5 if found[index] else ():
            cv2.circle(tile, (round(x), round(y)), 1, (0, 255, 0), -1, cv2.LINE_AA)
        tiles.append(tile)
    return np.concatenate(tiles, axis=1).astype(np.uint8)


def _build(device: str) -> Callable[[tuple[Path, Path]], tuple[int, str]]:
    return _label_one


def _label_one(job: tuple[Path, Path]) -> tuple[int, str]:
    """Label one file; returns the number of frames with a face, and what went wrong."""
    path, target = job
    try:
        return label_file(path, target), ""
    except Exception as error:  # a worker reports its file and lives on for the next one
        return 0, " ".join(str(error).split()) or type(error).__name__


def main() -> None:
    """Command line: label every video and picture below ``--root``."""
    parser = CommandParser(description="Label faces with MediaPipe (see the module's text)")
    parser.add_argument("--root", type=Path, required=True, help="folder of the media")
    parser.add_argument("--folders", nargs="*", default=["."], help="subfolders of it to label")
    parser.add_argument("--files", nargs="*", help="files of it to label instead of folders")
    parser.add_argument("--output", type=Path, required=True, help="folder for the labels")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--sheets", type=Path, help="folder for strips of labeled frames (PNG)")
    arguments = parser.parse_args()
    suffixes = VIDEO_SUFFIXES + IMAGE_SUFFIXES
    if arguments.files:
        candidates = [arguments.root / name for name in arguments.files]
    else:
        candidates = [path for folder in arguments.folders for path in (arguments.root / folder).rglob("*")]
    sources = sorted(path for path in candidates if path.suffix.lower() in suffixes)
    if not sources:
        raise UserError(f"no videos or pictures in {arguments.root}: name a folder with --root and --folders")
    targets = {
        path: (arguments.output / path.relative_to(arguments.root)).with_suffix(".npz") for path in sources
    }
    jobs = [(path, target) for path, target in targets.items() if not target.is_file()]
    logger.info("%d of %d files are to be labeled", len(jobs), len(sources))
    places = [Place()] * max(1, arguments.processes)
    for count, result in enumerate(run_locally(_build, jobs, places), start=1):
        frames, reason = result.value or (0, "the worker process died each time it was tried")
        if reason or not frames:
            reason = reason or "no face found"
            logger.warning("[%d/%d] rejected %s: %s", count, len(jobs), result.item[0], reason)
        else:
            logger.info("[%d/%d] %s: face in %d frames", count, len(jobs), result.item[0], frames)
    if arguments.sheets:
        import cv2

        for path, target in targets.items():
            if target.is_file():
                sheet = contact_sheet(path, target)
                with atomic_path(arguments.sheets / f"{path.stem}.png") as temporary:
                    cv2.imwrite(str(temporary), sheet[:, :, ::-1])


if __name__ == "__main__":
    run_command(main)
