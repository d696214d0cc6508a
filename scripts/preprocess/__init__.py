"""Preprocessing of talking-head videos into training data, one step a file."""
