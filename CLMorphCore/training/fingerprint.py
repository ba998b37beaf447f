"""What the scans of a training are like, and what is wrong with any: found before anything is trained.

Thumbnails of one organ, seen in one contrast and lying in one orientation, resemble one another; what does not is
named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations, product

import numpy as np

from ..io.manifest import Subject
from ..progress import Progress, silent
from .intensities import clipped, other_scales
from .labels import label_findings
from .mirrored import mirrored_labels
from .scans import Finding, Scan, look_at
from .warned import warned

INSIDE = 0.25  # of a thumbnail's mean: what is brighter is foreground
DUPLICATE = 0.9995  # correlation of two thumbnails of one scan that was saved twice
# A scan of another kind resembles the others, by artanh of the correlation, by less than ALIKE of what they resemble
# one another, and by less than MIN_DEVIATIONS of their spread below it. Other organs reached 0.4 of it and less, brains
# of other contrast 0.5, mice among people 0.64; of 60 genuine scans of four organs one reached 0.66, all others more.
ALIKE = 0.65
MIN_DEVIATIONS = 3.5
MAX_SIZE_RATIO = 1.8  # of the cube roots of the foregrounds' boxes
MIN_LIKENESS = 0.0  # of two scans alone; genuine pairs of hearts had 0.03 and more, of mice and hippocampi 0.37
TURNED_ALIKE = 0.75  # of what the others resemble one another, after other axes, for a header to be taken for wrong
MAX_INTENSITY_RATIO, MAX_SPACING_RATIO = 10.0, 1.5  # of two scans, that are not worth a word


@dataclass(frozen=True)
class Fingerprint:
    """The scans that could be read, and what was found; ``kept`` are those that nothing is wrong with."""

    scans: tuple[Scan, ...]
    findings: tuple[Finding, ...]

    @property
    def left_out(self) -> dict[str, str]:
        """Subject → why it is not trained on."""
        return {f.subject: f.text for f in self.findings if f.left_out}

    @property
    def kept(self) -> tuple[Scan, ...]:
        """The scans that are not left out."""
        left_out = self.left_out
        return tuple(scan for scan in self.scans if scan.subject.name not in left_out)


def take_fingerprint(subjects: Sequence[Subject], progress: Progress = silent) -> Fingerprint:
    """Reads every scan and compares all with one another."""
    scans: list[Scan] = []
    findings: list[Finding] = []
    for n, subject in enumerate(subjects):
        progress(f"looking at {subject.name} ({n + 1}/{len(subjects)})", n / len(subjects))
        scan, found = look_at(subject)
        findings += found
        scans += [scan] if scan is not None else []
    findings += warned(scans)
    for compare in (sizes, duplicates, strangers):  # each among those that nothing is wrong with so far
        findings += compare(_without(scans, findings))
    if good := _without(scans, findings):
        findings += [*label_findings(good), *mirrored_labels(good), *differences(good)]
    return Fingerprint(tuple(scans), tuple(findings))


def _without(scans: Sequence[Scan], findings: Sequence[Finding]) -> list[Scan]:
    gone = {f.subject for f in findings if f.left_out}
    return [scan for scan in scans if scan.subject.name not in gone]


def duplicates(scans: Sequence[Scan]) -> list[Finding]:
    """Scans that are another one once more, the same voxels or all but the same picture; a labelled one is kept."""
    found = []
    scans = sorted(scans, key=lambda scan: scan.values is None)
    for n, scan in enumerate(scans):
        for other in scans[:n]:
            same = scan.digest == other.digest
            if same or float(np.corrcoef(scan.thumbnail.ravel(), other.thumbnail.ravel())[0, 1]) > DUPLICATE:
                how = "has the same voxels as" if same else "shows the same as"
                what = f"{how} {other.subject.name}: a duplicate{_between(scan.subject.split, other.subject.split)}"
                found.append(Finding(scan.subject.name, what, left_out=True))
                break
    return found


def _between(split: str, other: str) -> str:
    """What of it a duplicate in another split than its like's spoils."""
    if split == other or not split or not other:
        return ""
    return f" among splits ({split} and {other}), by which figures would be better than they are"


def sizes(scans: Sequence[Scan]) -> list[Finding]:
    """Scans whose foreground is much smaller or larger than that of most: another organ or species, other units."""
    length = np.array([np.prod(scan.extent_mm) ** (1 / 3) for scan in scans])
    usual = float(np.median(length)) if len(length) else 1.0
    return [
        Finding(
            scan.subject.name,
            f"its foreground is {_product(scan.extent_mm)} mm, {ratio:.2g} times as long as usual: another organ or "
            "species, or its header has other units",
            left_out=True,
        )
        for scan, ratio in zip(scans, length / usual, strict=True)
        if len(scans) > 2 and max(ratio, 1 / ratio) > MAX_SIZE_RATIO
    ]


def strangers(scans: Sequence[Scan]) -> list[Finding]:
    """Scans that do not look like the others: of another contrast, organ or orientation."""
    if len(scans) < 3:
        return []
    alike = _alikeness([scan.thumbnail for scan in scans])
    majority = _majority(alike)
    found = [
        Finding(scans[n].subject.name, _of_other_kind(len(scans) - len(majority), len(majority)), left_out=True)
        for n in range(len(scans))
        if n not in majority
    ]
    medians = np.array([np.median([alike[n, m] for m in majority if m != n]) for n in majority])
    usual = float(np.median(medians))
    spread = 1.4826 * float(np.median(np.abs(medians - usual)))
    limit = min(ALIKE * usual, usual - MIN_DEVIATIONS * spread)
    strange = [n for n, median in zip(majority, medians, strict=True) if median < limit]
    others = [scans[n].thumbnail for n in majority if n not in strange]
    found += [
        Finding(scans[n].subject.name, _strangeness(scans[n].thumbnail, others, usual), left_out=True) for n in strange
    ]
    return found


def _of_other_kind(minority: int, majority: int) -> str:
    return (
        f"is one of {minority} scans that resemble one another and not the other {majority}: another contrast, or "
        "another organ; a model is of one contrast"
    )


def _majority(alike: np.ndarray) -> list[int]:
    """The scans of the larger kind, where there are two, of two scans or more each; else all."""
    everything = list(range(len(alike)))
    first, second = np.unravel_index(np.argmin(alike), alike.shape)
    of_second = alike[second] > alike[first]
    for _ in range(10):
        groups = [np.flatnonzero(of_second == which) for which in (False, True)]
        if min(len(group) for group in groups) < 2:
            return everything
        one, other = (
            (alike[:, group].sum(axis=1) - np.isin(everything, group)) / (len(group) - np.isin(everything, group))
            for group in groups
        )
        if (of_second == (other > one)).all():
            break
        of_second = other > one
    groups = sorted((np.flatnonzero(of_second == which) for which in (False, True)), key=len)
    if len(groups[0]) < 2:
        return everything
    within = [float(np.median(alike[np.ix_(g, g)][~np.eye(len(g), dtype=bool)])) for g in groups]
    between = float(np.median(alike[np.ix_(*groups)]))
    return groups[1].tolist() if between < ALIKE * min(within) else everything


def _alikeness(thumbnails: Sequence[np.ndarray]) -> np.ndarray:
    """(N, N): artanh of the correlation of each two thumbnails where both have foreground; 1 on the diagonal."""
    alike = np.eye(len(thumbnails))
    for n, one in enumerate(thumbnails):
        for m in range(n):
            alike[n, m] = alike[m, n] = _likeness(one, thumbnails[m])
    return alike


def _likeness(one: np.ndarray, other: np.ndarray) -> float:
    both = (one > INSIDE) & (other > INSIDE)
    if both.sum() < 2 or one[both].std() == 0 or other[both].std() == 0:
        return 0.0
    return float(np.arctanh(np.clip(np.corrcoef(one[both], other[both])[0, 1], -0.999, 0.999)))


def _strangeness(thumbnail: np.ndarray, others: Sequence[np.ndarray], usual: float) -> str:
    """What is other about a scan: its axes, its contrast or what it shows."""
    turned = max(_turned(thumbnail), key=lambda each: np.median([_likeness(each, one) for one in others]))
    if np.median([_likeness(turned, one) for one in others]) > TURNED_ALIKE * usual:
        return "lies otherwise than the others: its header names other axes than theirs; correct its orientation"
    shape = np.median([np.corrcoef(thumbnail.ravel(), one.ravel())[0, 1] for one in others])
    rival = np.median([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairwise(others)])
    if shape > 0.5 * rival:
        return "has the others' shape and not their greys: another contrast, or strong artefacts"
    return "does not resemble the others: another organ, another part of the body or another contrast"


def _turned(thumbnail: np.ndarray) -> Iterator[np.ndarray]:
    """The thumbnail under every other order and direction of its axes but left and right alone."""
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        if order != (0, 1, 2) or signs not in ((1, 1, 1), (1, 1, -1)):
            yield thumbnail.transpose(order)[:: signs[0], :: signs[1], :: signs[2]]


def differences(scans: Sequence[Scan]) -> list[Finding]:
    """What differs between good scans and is taken care of: spacing, scale of intensities; two scans that may not fit.

    Of two scans nobody can say which one is wrong: none is left out.
    """
    found = _of_two(*scans) if len(scans) == 2 else []
    spacing = np.array([sorted(scan.voxel_mm) for scan in scans])
    if (spacing.max(axis=0) / spacing.min(axis=0)).max() > MAX_SPACING_RATIO:
        finest, coarsest = (_product(of(spacing, axis=0)) for of in (np.min, np.max))
        found.append(Finding("", f"voxels are from {finest} mm to {coarsest} mm large: all are resampled"))
    names, intensity = [scan.subject.name for scan in scans], [scan.intensity for scan in scans]
    found += [Finding(name, text) for name, text in clipped(names, [scan.clipped for scan in scans])]
    if others := other_scales(names, intensity):
        found += [Finding(name, text) for name, text in others]
    elif (ratio := max(intensity) / min(intensity)) > MAX_INTENSITY_RATIO:
        found.append(Finding("", f"intensities differ by a factor of {ratio:.2g}: each scan is normalised for itself"))
    return found


def _of_two(first: Scan, second: Scan) -> list[Finding]:
    """What makes it unlikely that two scans are of one kind."""
    lengths = [float(np.prod(scan.extent_mm)) ** (1 / 3) for scan in (first, second)]
    names = f"{first.subject.name} and {second.subject.name}"
    if max(lengths) > MAX_SIZE_RATIO * min(lengths):
        what = f"{_product(first.extent_mm)} mm and {_product(second.extent_mm)} mm of foreground in {names}"
        return [Finding("", f"{what}: another organ or species in one of them, or its header has other units")]
    if _likeness(first.thumbnail, second.thumbnail) < MIN_LIKENESS:
        return [Finding("", f"{names} do not resemble one another: other contrasts, organs or orientations")]
    return []


def _product(lengths: Sequence[float] | np.ndarray) -> str:
    return " × ".join(f"{length:.3g}" for length in np.asarray(lengths).tolist())
