"""Means with their spread, of the values that exist."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation (NaN for fewer than two) and number of the values that are not NaN."""

    mean: float = math.nan
    sd: float = math.nan
    count: int = 0

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        known = [value for value in values if not math.isnan(value)]
        return cls(mean(known), float(np.std(known, ddof=1)) if len(known) > 1 else math.nan, len(known))

    def text(self, digits: int, absent: str = "") -> str:
        """'0.700 ± 0.020'; the mean alone where there is no deviation, ``absent`` where there is no value."""
        if math.isnan(self.mean):
            return absent
        return f"{self.mean:.{digits}f}" + ("" if math.isnan(self.sd) else f" ± {self.sd:.{digits}f}")


def mean(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN; NaN where there is none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
