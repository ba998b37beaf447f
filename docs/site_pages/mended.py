"""What the theme's pages lack for those who use a keyboard or have a page read to them."""

from __future__ import annotations

import re
from pathlib import Path

SCROLLED = 'tabindex="0" role="group" aria-label="can be scrolled"'
SHELL = re.compile(r'<div class="highlight-(?:sh|bash) notranslate"><div class="highlight"><pre>.*?</pre>', re.S)
OPTION = re.compile(r'(?<=[\s>])(?<!option">)--?[A-Za-z][\w-]*')
PARAMETERS = re.compile(r"<dl>\s*((?:<dd>.*?</dd>\s*)+)</dl>", re.S)


def mend(folder: Path) -> None:
    """Mends every page of a built site."""
    for page in folder.rglob("*.html"):
        page.write_text(mended(page.read_text(encoding="utf-8")), encoding="utf-8")


def mended(text: str) -> str:
    """Headings get a level, what scrolls is moved by the keyboard, parameters of a signature are no list of terms."""
    text = re.sub(r'role="heading"(?! aria-level)', 'role="heading" aria-level="2"', text)
    text = SHELL.sub(lambda found: OPTION.sub(r'<span class="option">\g<0></span>', found.group()), text)
    text = text.replace("<pre>", f"<pre {SCROLLED}>")
    text = re.sub(r'<div class="(table-wrapper[^"]*|equation)">', rf'<div class="\1" {SCROLLED}>', text)
    text = re.sub(r'<span class="pre">(?=-)', '<span class="pre option">', text)  # --refine is not cut at its hyphen
    text = re.sub(r"(?<=\d) ± (?=\d)", "\u00a0±\u00a0", text)  # a figure stays on its line
    return PARAMETERS.sub(lambda found: f'<span class="parameters">{_spans(found[1])}</span>', text)


def _spans(parameters: str) -> str:
    return parameters.replace("<dd>", '<span class="parameter">').replace("</dd>", "</span>")
