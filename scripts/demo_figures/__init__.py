"""Measures of the bundled weights on prepared clips of people that no training saw."""
