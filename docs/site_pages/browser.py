"""Chromium without a window: pictures of pages, and what scripts find on them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BUDGET_MS = 20_000  # of a script's own time


def browser() -> str | None:
    """The program, or None where none is installed."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def screenshot(page: Path, picture: Path, width: int, height: int) -> None:
    """Draws the first ``height`` pixels of a page; RuntimeError without a browser."""
    _run(page, f"--window-size={width},{height}", f"--screenshot={picture.resolve()}")


def dom(page: Path, *, width: int = 1200, dark: bool = False) -> str:
    """The page as its scripts have left it; RuntimeError without a browser."""
    scheme = 0 if dark else 1  # blink::mojom::PreferredColorScheme
    return _run(
        page,
        f"--window-size={width},900",
        "--dump-dom",
        f"--virtual-time-budget={BUDGET_MS}",
        f"--blink-settings=preferredColorScheme={scheme}",
    )


def _run(page: Path, *options: str) -> str:
    program = browser()
    if program is None:
        raise RuntimeError(f"no browser is installed; expected one of {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory() as profile:
        own = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files")
        command = [program, *own, f"--user-data-dir={profile}", *options, page.resolve().as_uri()]
        ran = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8", timeout=180)
    return ran.stdout
