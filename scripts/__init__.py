"""Command-line programs; run them from the project's root with ``python -m scripts.NAME``."""
