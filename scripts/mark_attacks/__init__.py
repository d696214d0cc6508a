"""What is done to marked files to see whether their marks survive: for ``scripts.measure_marks``."""
