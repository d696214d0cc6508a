"""Ends of file names by which folders are searched for media; what is inside decides whether it can be read."""

from __future__ import annotations

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".mpg", ".mpeg")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
