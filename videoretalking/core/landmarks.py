"""The 68 face points of the iBUG 300-W scheme, numbered here and nowhere else.

Left and right mean left and right in the picture. A slice or list indexes the axis of the points.
"""

from __future__ import annotations

import numpy as np

NUM_LANDMARKS = 68

JAW = slice(0, 17)  # from the left ear over the chin to the right ear
JAW_SIDES = [*range(5), *range(12, 17)]
CHIN_LINE = slice(5, 12)  # the part of the jaw that moves when the mouth opens
CHIN = 8
BROWS = slice(17, 27)
NOSE = slice(27, 36)
NOSE_TIP = 30
LEFT_EYE, RIGHT_EYE = slice(36, 42), slice(42, 48)
LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS = [36, 39], [42, 45]
OUTER_EYE_CORNERS = (36, 45)
LIPS = slice(48, 68)
OUTER_LIPS, INNER_LIPS = slice(48, 60), slice(60, 68)
MOUTH_CORNERS = [48, 54]
OUTER_LIP_GAP = (51, 57)  # middle of the upper and of the lower outer lip
INNER_LIP_GAP = (62, 66)  # the same of the inner lip line
INNER_LIP_PAIRS = ((61, 67), (62, 66), (63, 65))  # points of the inner lip line that face each other

STILL = slice(27, 48)  # nose and eyes: points that speech does not move
RIGID = [*range(27, 36), *LEFT_EYE_CORNERS, *RIGHT_EYE_CORNERS]  # points that no expression moves much

# Where each point goes in a mirror image: jaw, brows, ridge and base of the nose, eyes, outer and inner lips.
MIRRORED = np.array(
    [
        *range(16, -1, -1),
        *range(26, 16, -1),
        *range(27, 31),
        *range(35, 30, -1),
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
        *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
        *(64, 63, 62, 61, 60, 67, 66, 65),
    ]
)
