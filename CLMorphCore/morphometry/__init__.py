"""Deformation-based morphometry: where in the atlas' space scans of a group are larger or smaller than others."""
