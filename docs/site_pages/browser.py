"""Chromium without a window: pictures of pages, and what scripts find on them."""

from __future__ import annotations

import html
import shutil
import subprocess
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BUDGET_MS = 20_000  # of a script's own time
MIN_WINDOW = 500  # pixels; Chromium makes no narrower one, so that a phone is a frame in a window
FRAME = """<!doctype html><meta charset="utf-8"><style>* {{ margin: 0; border: 0 }}</style>
<iframe src="{page}" width="{width}" height="{height}"></iframe><pre id="said"></pre><script>
addEventListener("message", event => {{ document.getElementById("said").textContent = event.data; }});
</script>"""


def browser() -> str | None:
    """The program, or None where none is installed."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def screenshot(page: Path, picture: Path, width: int, height: int) -> None:
    """Draws the first ``height`` pixels of a page, beside white where it is narrow; RuntimeError without a browser."""
    _run(page, width, height, f"--screenshot={picture.resolve()}")


def said(page: Path, *, width: int = 1200, dark: bool = False) -> str:
    """What a page's script sends to the window around it (``top.postMessage``); RuntimeError without a browser."""
    scheme = 0 if dark else 1  # blink::mojom::PreferredColorScheme
    settings = f"--blink-settings=preferredColorScheme={scheme}"
    shown = _run(page, width, 900, "--dump-dom", f"--virtual-time-budget={BUDGET_MS}", settings)
    return html.unescape(shown.partition('<pre id="said">')[2].partition("</pre>")[0])


def _run(page: Path, width: int, height: int, *options: str) -> str:
    program = browser()
    if program is None:
        raise RuntimeError(f"no browser is installed; expected one of {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory() as folder:
        window = Path(folder) / "window.html"
        frame = FRAME.format(page=html.escape(page.resolve().as_uri()), width=width, height=height)
        window.write_text(frame, encoding="utf-8")
        own = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files")
        size = f"--window-size={max(width, MIN_WINDOW)},{height}"
        command = [program, *own, size, f"--user-data-dir={folder}/profile", *options, window.as_uri()]
        ran = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8", timeout=180)
    return ran.stdout
