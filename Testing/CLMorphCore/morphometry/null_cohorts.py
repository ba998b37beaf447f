"""python Testing/CLMorphCore/morphometry/null_cohorts.py [COUNT [JSON]]: how many cohorts seem to differ that do not.

Each is the whole way from maps to p on a tiny grid: random smooth deformations, their smoothed log-Jacobians, a group
that means nothing and an age that they are corrected for. A cohort is a false positive where any voxel has p < 0.05.
"""

import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.stats import binom

sys.path.append(str(Path(__file__).parents[2]))

from made_up_cohort import wobble

from CLMorphCore.geometry import Grid, placed
from CLMorphCore.morphometry.design import Design, Term
from CLMorphCore.morphometry.statistics import permutation_test
from CLMorphCore.morphometry.volumes import log_jacobian

LEVEL, SCANS = 0.05, 14
GRID = Grid((9, 8, 7), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))


def cohort(random):
    """(SCANS, V): log-Jacobians of maps that differ by chance."""
    maps = []
    for _ in range(SCANS):
        field = placed(np.ascontiguousarray(wobble(GRID, random)), GRID, vectors=True)
        maps.append(log_jacobian(sitk.DisplacementFieldTransform(field), GRID).ravel())
    return np.stack(maps)


def false_positives(cohorts, permutations, seed=0):
    """How many of the cohorts have a significant voxel."""
    random, found = np.random.default_rng(seed), 0
    for n in range(cohorts):
        group = random.permutation(np.arange(SCANS) % 2).astype(float)
        age = random.uniform(20, 80, SCANS) + 10 * group
        terms = Term("group", group, ("a", "b")), Term("age", age)
        test = permutation_test(
            Design("group + age", terms), terms[0], cohort(random), permutations=permutations, seed=n
        )
        found += bool(test.p.min() < LEVEL)
    return found


def most_expected(cohorts):
    """The most false positives that 99 in 100 such experiments have at the nominal level."""
    return int(binom.ppf(0.99, cohorts, LEVEL))


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    found = false_positives(count, permutations=999)
    low, high = (int(each) for each in binom.ppf([0.025, 0.975], count, LEVEL))
    print(f"{found} of {count} null cohorts have a voxel with p < {LEVEL:g} (corrected)")
    most = most_expected(count)
    print(f"at the nominal level 95 of 100 experiments have {low} to {high}, 99 of 100 at most {most}")
    if len(sys.argv) > 2:
        told = {"cohorts": count, "false_positives": found, "level": LEVEL, "nominal_95": [low, high]}
        Path(sys.argv[2]).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
