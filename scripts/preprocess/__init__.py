"""Preprocessing of talking-head videos into training data, one step a file.

In their order: ``sources``, ``tracks``, ``clips``, ``audio``, ``coefficients``, ``offsets``, ``restore`` and
``splits``. ``runner`` is the frame around each of them, ``label_landmarks`` makes labels that may stand in for the
detector.
"""
