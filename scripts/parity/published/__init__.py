"""Behavior of the published program that only parity checks need; the product does not import it."""
