"""Pages by axe-core, by light and in the dark: contrast, names of what can be operated, alternative texts, headings.

axe-core comes from npm, once, at a fixed version. A page is copied with the script in it, without its own rule against
scripts, and opened by Chromium.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .browser import said

AXE = "axe-core@4.14.1"
PHONE = 390
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
LOOKS = ((False, 1200), (True, 1200), (False, PHONE))  # dark, width in pixels
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
RUN = """<script src="%s"></script><script>
axe.run(document, {runOnly: %s}).then(found => {
  const place = node => node.target.join(" ") + ": " + node.failureSummary;
  top.postMessage(JSON.stringify(found.violations.map(rule => [rule.id, rule.help, rule.nodes.map(place)])), "*");
});</script>"""


def fetch_axe(folder: Path) -> Path:
    """axe.min.js by npm; RuntimeError where there is none."""
    if not shutil.which("npm"):
        raise RuntimeError("npm is not installed; it fetches axe-core")
    subprocess.run(["npm", "pack", "--silent", AXE], cwd=folder, check=True, capture_output=True)
    (packed,) = folder.glob("axe-core-*.tgz")
    shutil.unpack_archive(packed, folder)
    return folder / "package" / "axe.min.js"


def violations(page: Path, axe: Path, *, dark: bool = False, width: int = 1200) -> list[str]:
    """A line for each thing that axe finds wrong with a page."""
    text = POLICY.sub("", page.read_text(encoding="utf-8"))
    script = RUN % (axe.resolve().as_uri(), json.dumps(TAGS))
    copy = page.with_name(f".axe-{page.name}")  # beside the page, so that its links hold
    copy.write_text(text.replace("</body>", f"{script}</body>"), encoding="utf-8")
    try:
        found = said(copy, dark=dark, width=width)
    finally:
        copy.unlink(missing_ok=True)
    if not found:
        raise RuntimeError(f"axe did not answer on {page}")
    return [
        f"{page}{' (dark)' if dark else ''}: {rule}: {what}: {where}"
        for rule, what, places in json.loads(found)
        for where in places
    ]


def check(places: list[Path]) -> list[str]:
    """What is wrong with pages, and with all pages of folders."""
    with tempfile.TemporaryDirectory() as name:
        axe = fetch_axe(Path(name))
        return [
            line
            for page in _pages(places)
            for dark, width in LOOKS
            for line in violations(page, axe, dark=dark, width=width)
        ]


def _pages(places: list[Path]) -> Iterator[Path]:
    for place in places:
        yield from sorted(place.rglob("*.html")) if place.is_dir() else [place]
