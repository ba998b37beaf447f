"""What a structure is called in DICOM: a code for it, its side, and whether it is an organ's part or a fluid.

Codes are those of DICOM's own context groups (PS3.16: CID 244, 7140, 7151 and 7153), of SNOMED CT and DICOM.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

PRIVATE = "99CLMORPH"  # scheme of the codes of structures that have none here; PS3.16 chapter 8 keeps "99…" for such
MAX_SCHEME, MAX_CODE, MAX_MEANING = 16, 16, 64  # letters, of SH and LO


class Term(NamedTuple):
    """A coded concept of DICOM."""

    scheme: str
    code: str
    meaning: str


class Coded(NamedTuple):
    """A structure in codes: its category, what it is, and on which side or at which end."""

    category: Term
    kind: Term
    modifiers: tuple[Term, ...]


ANATOMY = Term("SCT", "91723000", "Anatomical Structure")
SUBSTANCE = Term("SCT", "91720002", "Body Substance")
MODIFIERS = {
    "left": Term("SCT", "7771000", "Left"),
    "right": Term("SCT", "24028007", "Right"),
    "anterior": Term("SCT", "255549009", "Anterior"),
    "posterior": Term("SCT", "255551008", "Posterior"),
}
# Names of structures in small letters, without their side where there are two of them.
KNOWN = {
    "amygdala": Term("SCT", "4958002", "Amygdala"),
    "brain": Term("SCT", "12738006", "Brain"),
    "brainstem": Term("SCT", "119238007", "Brain Stem"),
    "brain stem": Term("SCT", "119238007", "Brain Stem"),
    "caudate": Term("SCT", "11000004", "Caudate Nucleus"),
    "caudate nucleus": Term("SCT", "11000004", "Caudate Nucleus"),
    "cerebellar cortex": Term("SCT", "25991003", "Cerebellar Cortex"),
    "cerebellar white matter": Term("SCT", "33060004", "Cerebellar White Matter"),
    "cerebellum": Term("SCT", "113305005", "Cerebellum"),
    "cerebral cortex": Term("SCT", "40146001", "Cerebral cortex"),
    "cerebrospinal fluid": Term("SCT", "65216001", "Cerebrospinal Fluid"),
    "entorhinal cortex": Term("SCT", "3937002", "Entorhinal Cortex"),
    "fourth ventricle": Term("SCT", "35918002", "Fourth Ventricle"),
    "globus pallidus": Term("SCT", "14738005", "Globus Pallidus"),
    "hippocampus": Term("SCT", "5366008", "Hippocampus"),
    "inferior horn of lateral ventricle": Term("SCT", "53118009", "Inferior Horn of Lateral Ventricle"),
    "insula": Term("SCT", "36169008", "Insula"),
    "lateral ventricle": Term("SCT", "66720007", "Lateral Ventricle"),
    "left atrium": Term("SCT", "82471001", "Left atrium"),
    "left ventricle": Term("SCT", "87878005", "Left ventricle"),
    "left ventricular myocardium": Term("SCT", "49848007", "Left Ventricle Myocardium"),
    "nucleus accumbens": Term("SCT", "427667007", "Nucleus Accumbens"),
    "optic chiasm": Term("SCT", "244453006", "Optic chiasm"),
    "putamen": Term("SCT", "89278009", "Putamen"),
    "right atrium": Term("SCT", "73829009", "Right atrium"),
    "right ventricle": Term("SCT", "53085002", "Right ventricle"),
    "thalamus": Term("SCT", "42695009", "Thalamus"),
    "third ventricle": Term("SCT", "49841001", "Third ventricle"),
    "ventral diencephalon": Term("DCM", "110700", "Ventral Diencephalon"),
}
FLUIDS = {"65216001"}


def coded(name: str, terminology: str = "") -> Coded:
    """The codes of a structure: those of its ``SCHEME^CODE^MEANING``, else of its name, else one of our own scheme.

    A side or an end that begins the name modifies the code, unless its meaning tells it already. A structure without a
    known code gets one that is the same for the same name, and different for another; its meaning is the name.
    """
    words = " ".join(name.replace("_", " ").replace("-", " ").lower().split())
    leading, rest = _leading(words)
    kind = _given(terminology) or KNOWN.get(words) or KNOWN.get(rest)
    if kind is None:
        digest = hashlib.sha256(name.encode()).hexdigest()[:12].upper()
        return Coded(ANATOMY, Term(PRIVATE, digest, _short(name)), ())
    told = kind.meaning.lower().split()
    modifiers = tuple(MODIFIERS[word] for word in leading if word not in told)
    return Coded(SUBSTANCE if kind.code in FLUIDS else ANATOMY, kind, modifiers)


def label(name: str) -> str:
    """A name as a segment's label can hold it: at most 64 letters, without the backslash that parts values."""
    return _short(name) or "Segment"


def _leading(words: str) -> tuple[list[str], str]:
    """The sides and ends that a name begins or, as 'kidney left', ends with, and what is left of it."""
    parts = words.split()
    found = []
    while len(parts) > 1 and parts[0] in MODIFIERS:
        found.append(parts.pop(0))
    if len(parts) > 1 and parts[-1] in ("left", "right"):
        found.append(parts.pop())
    return found, " ".join(parts).strip(" ,")


def _given(terminology: str) -> Term | None:
    """The term of ``SCHEME^CODE^MEANING``; None where it is not one that DICOM can hold."""
    parts = [part.strip() for part in terminology.split("^")]
    if len(parts) != 3 or not all(parts) or "\\" in terminology:
        return None
    scheme, code, meaning = parts
    return Term(scheme, code, meaning[:MAX_MEANING]) if len(scheme) <= MAX_SCHEME and len(code) <= MAX_CODE else None


def _short(name: str) -> str:
    return " ".join(name.replace("\\", "/").split())[:MAX_MEANING].strip()
