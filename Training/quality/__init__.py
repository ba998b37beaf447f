"""Fitting and measuring the quality score: ``python -m Training.quality fit|measure``."""
