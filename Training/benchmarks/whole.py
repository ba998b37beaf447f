"""``python -m Training.benchmarks.whole``: seconds and memory of the whole ``clmorph segment``, scan by scan.

Each run is a process of its own, as a user starts it, from the start of Python to the page.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from CLMorphCore.arguments import kinds
from CLMorphCore.atomic import atomic_write, check_writable
from CLMorphCore.bundles.model import load_model
from CLMorphCore.errors import InputError
from Training.command_line import exit_code

# In a small process: on Linux what a process took counts for those that it starts (runners.runner.peak_mb).
WATCHED = """
import resource, subprocess, sys, time
began = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdout=sys.stderr)
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
COLUMNS: list[str] = ["scan", "model", "seconds", "peak_gb", "measured_with", "runs"]


def main(arguments: list[str] | None = None) -> int:
    """Prints what was measured and writes it as CSV, scan by scan; returns 0, or 2 for bad input."""
    options = _parser().parse_args(arguments)
    return exit_code("whole", lambda: _run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m Training.benchmarks.whole", description=__doc__)
    parser.add_argument("scans", nargs="+", metavar="WHAT=MODEL=IMAGE", help="its name in the table, model and file")
    parser.add_argument("--threads", type=kinds.threads, default=2, help="CPU threads of the command (default: 2)")
    parser.add_argument("--runs", type=int, default=3, help="of each scan, whose median counts (default: 3)")
    parser.add_argument("-o", "--out", type=Path, required=True, help="CSV; rows of other scans in it stay")
    return parser


def _run(options: argparse.Namespace) -> None:
    wanted = [each.split("=", 2) for each in options.scans]
    if wrong := [given for given, parts in zip(options.scans, wanted, strict=True) if len(parts) < 3]:
        raise InputError(f"{wrong[0]}: expected WHAT=MODEL=IMAGE")
    if min(options.runs, options.threads) < 1:
        raise InputError(f"--runs {options.runs}, --threads {options.threads}: expected one or more")
    check_writable(options.out.absolute().parent)
    rows = _read(options.out)
    for scan, model, image in wanted:
        measured = [_once(model, image, options.threads) for _ in range(options.runs)]
        seconds, peaks = zip(*measured, strict=True)
        rows[scan, model] = {
            "scan": scan,
            "model": model,
            "seconds": f"{statistics.median(seconds):.1f}",
            "peak_gb": f"{max(peaks):.2f}",
            "measured_with": f"{model} {load_model(model).about('version')}".strip(),
            "runs": f"median of {options.runs}" if options.runs > 1 else "1",
        }
        print(f"{scan}: {rows[scan, model]['seconds']} s, {rows[scan, model]['peak_gb']} GB", flush=True)
        _write(options.out, list(rows.values()))


def _once(model: str, image: str, threads: int) -> tuple[float, float]:
    """Seconds by the clock and the height of memory in GB (10⁹ bytes) of one run; InputError where it fails."""
    with tempfile.TemporaryDirectory(prefix="clmorph-whole-") as folder:
        words = [sys.executable, "-m", "CLMorphCore", "segment", image, "--model", model, "-o", f"{folder}/out"]
        words += ["--threads", str(threads), "--progress", "none"]
        ran = subprocess.run([sys.executable, "-c", WATCHED, *words], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise InputError(f"clmorph segment {image} failed: {' '.join(ran.stderr.strip().splitlines()[-1:])}")
    seconds, peak = map(float, ran.stdout.split())
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return seconds, peak * unit / 1e9


def _read(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {(row["scan"], row["model"]): row for row in csv.DictReader(file)}


def _write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
