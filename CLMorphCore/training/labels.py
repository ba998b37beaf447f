"""What is wrong with labels, seen beside those of the other scans: a structure lacks or is one scan's alone, a part of
the scan has none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..errors import listed
from ..io.label_grid import covers_a_part, shown_share
from .intensities import MAX_NAMED
from .scans import Finding, Scan

MAX_LABELS = 8  # of a finding
MOST = 0.6  # of the labelled scans, that have a label which the others are then said to lack


def label_findings(scans: Sequence[Scan]) -> list[Finding]:
    """Labels that most labelled scans have and one lacks, or that one alone has; labels of a part of the scan."""
    labelled = [scan for scan in scans if scan.values is not None]
    return [*_other_values(labelled), *_cut(labelled)]


def _other_values(labelled: Sequence[Scan]) -> list[Finding]:
    counts = Counter(value for scan in labelled for value in scan.values or ())
    found = []
    for scan in labelled if len(labelled) > 1 else []:
        values = set(scan.values or ())
        lacking = sorted(v for v, n in counts.items() if v not in values and n > MOST * len(labelled))
        alone = sorted(v for v in values if counts[v] == 1)
        if lacking:
            least = min(counts[v] for v in lacking)
            those = "all others have" if least == len(labelled) - 1 else f"{least} of {len(labelled)} scans have"
            found.append(Finding(scan.subject.name, f"lacks {of_labels(lacking)}, which {those}"))
        if alone:
            found.append(Finding(scan.subject.name, f"alone has {of_labels(alone)}"))
    return found


def _cut(labelled: Sequence[Scan]) -> list[Finding]:
    """Labels whose file has a part of the scan's grid; many, as some programs save all of them, are one line."""
    cut = [scan for scan in labelled if scan.labels_cover < 1]
    if len(cut) <= MAX_NAMED:
        return [Finding(s.subject.name, covers_a_part(s.labels_cover)) for s in cut]
    shares = [scan.labels_cover for scan in cut]
    shown = listed([scan.subject.name for scan in cut], MAX_NAMED)
    return [
        Finding(
            "",
            f"in {len(cut)} of {len(labelled)} labelled ones the labels' file covers {shown_share(min(shares))} to "
            f"{shown_share(max(shares))} of the scan's grid ({shown}); outside of it all is taken as background",
        )
    ]


def of_labels(values: Sequence[int]) -> str:
    """'the labels 1, 2, 5 …', or 'the label 1'."""
    return f"the label{'s' if len(values) > 1 else ''} {listed([str(value) for value in values], MAX_LABELS)}"
