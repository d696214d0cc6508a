"""Proof of exactness against a kit of golden data."""
