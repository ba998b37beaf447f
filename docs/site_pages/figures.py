"""Figures in sentences, which are generated too: each is put where its sentence stands, from the file that has it.

A sentence, or a part of one, is written as it should read today. It is found on its page by its words, and its numbers
are put there. What no sentence and no pattern of ``NO_FIGURES`` accounts for is a figure from nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

NUMBER = re.compile(r"[+−-]?(?:\d+(?:,\d{3})+|\d*\.?\d+)")

# What is no figure of this project, though it has digits.
NO_FIGURES = (
    r"^```.*?^```",  # code, and what it prints, which the tutorials' runner compares
    r"<!-- generated: .*?<!-- end -->|<!--.*?-->",  # tables, which are generated as a whole
    r"^\|[^\n]*\| (?:5\.\d+|–) \| (?:ran|read|all tests)[^\n]*$",  # what Slicer has since when
    r"`[^`]*`",  # names of files and options, values that a user types
    r"\$\$.*?\$\$|\$[^$\n]+\$",  # equations
    r"\]\([^)]*\)|</?[a-z][^>\n]*>|https?://\S+|arXiv:\S+",  # links, pictures
    r"^#+ [^\n]*$|^ *\d+\. ",  # headings, numbered lists
    r"\b(?:3D|4D) Slicer\b|\b[1-4]D\b",
    r"\b(?:Slicer|Python|torch|slicer-core|MATLAB|Analyze|Greedy|version) v?\d[\d.]*"
    r"(?:(?:, | and | or )\d+\.[\d.]+)*",  # versions of programs
    r"\bCC BY(?:-NC)?(?:-SA)?\s\d\.\d|\bApache-\d\.\d",  # licences
    r"\b(?:equations?|figures?|tables?|task|subject) (?:\d+|[IV]+)(?:, \d+)*(?: and \d+)?",  # numbers of things
    r"\b(?:19|20)\d\d\b",  # years
    r"\b(?:SNOMED CT|TID|doi:)\s?\S+|\bNIfTI-[12]|\bUTF-8|\bOASIS-TRT-20\S*",  # codes and names
    r"\bpatient\d+",  # subjects
    r"\b(?:1e-3|1e-4)\b",  # rates of learning, as the papers have them
    r"\d+×\d+×\d+",  # sizes in voxels of the scan that is spoken of
)


@dataclass(frozen=True)
class Sentences:
    """What a page says in figures, and phrases of it that have digits and say nothing that could change."""

    said: tuple[str, ...]
    settled: tuple[str, ...] = ()


def put(text: str, said: Iterable[str]) -> str:
    """The text with the numbers of each sentence as they are now; ValueError for one that is not there once."""
    for sentence in said:
        found = _pattern(sentence).findall(text)
        if len(found) != 1:
            raise ValueError(f"{len(found)} places read as {sentence!r}; expected one")
        text = _pattern(sentence).sub(lambda match, now=sentence: _merged(match.group(), now), text)
    return text


def _pattern(sentence: str) -> re.Pattern[str]:
    """Its words with any numbers between them, over the ends of lines."""
    words = [re.sub(r"(?:\\ |\s)+", r"\\s+", re.escape(each)) for each in NUMBER.split(sentence)]
    before = r"(?<![\d.])" if NUMBER.match(sentence) else ""
    return re.compile(before + NUMBER.pattern.join(words))


def _merged(there: str, now: str) -> str:
    """What is there, with the numbers of now."""
    numbers = iter(NUMBER.findall(now))
    return NUMBER.sub(lambda _: next(numbers), there)


def from_nowhere(text: str, sentences: Sentences) -> list[str]:
    """The lines that have digits which nothing accounts for; ValueError for a phrase that is not there."""
    left = text
    for pattern in [_pattern(each) for each in sentences.said] + [_literal(each) for each in sentences.settled]:
        found = list(pattern.finditer(text))  # two that overlap are both there
        if not found:
            raise ValueError(f"nothing reads as {pattern.pattern!r}")
        for each in found:
            left = left[: each.start()] + _blank(each) + left[each.end() :]
    for each in NO_FIGURES:
        left = re.sub(each, _blank, left, flags=re.M | re.S)
    lines = zip(text.splitlines(), left.splitlines(), strict=True)
    numbered = enumerate(lines, start=1)
    return [f"line {n}: {line}" for n, (line, kept) in numbered if re.search(r"(?<!\w)\d", kept)]


def _literal(phrase: str) -> re.Pattern[str]:
    return re.compile(r"\s+".join(map(re.escape, phrase.split())))


def _blank(found: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", found.group())
