"""Layouts of corpora: functions that list the videos in a folder as its publisher left them (docs/data.md)."""
