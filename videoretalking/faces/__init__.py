"""Faces in frames: detection, tracking, alignment, masks, parsing and 3DMM coefficients."""
