"""Make the face of a video speak the words of an audio file.

    python inference.py --face VIDEO --audio SPEECH --outfile RESULT

``--help`` lists all flags; those of the published program and of Wav2Lip work too. ``videoretalking dub`` is the
same from any folder. From Python use :class:`videoretalking.Retalker`.
"""

from __future__ import annotations

from videoretalking.core.errors import run_command
from videoretalking.pipeline.cli import main

if __name__ == "__main__":
    run_command(main)
