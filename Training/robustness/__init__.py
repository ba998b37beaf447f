"""Damaged files through every reader: `python -m Training.robustness` counts what becomes of thousands of them."""
