"""One tool on one pair: a process of its own, then its output measured."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from CLMorphCore.bundles.model import model_folder, models_without_weights
from CLMorphCore.errors import InputError
from CLMorphCore.geometry import Grid
from Training.provenance import commit, machine

from .fields import measure
from .pairs import Pair, Prepared
from .results import FAILED, NOT_INSTALLED, OK, PLANNED, TIME, BenchmarkRow
from .runners import runner
from .tools import OWN, Tool

RUNNERS = Path(runner.__file__).parent
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


@dataclass(frozen=True)
class RunSettings:
    """How tools are run: the Python of each package, threads, seconds until a run is ended."""

    pythons: Mapping[str, str]
    threads: int
    limit_s: float


def planned_row(name: str, tool: Tool, pair: Pair, threads: int) -> BenchmarkRow:
    """The row before its run: what it is, on what, with which settings.

    A model's settings hold its weights' fingerprint, so that another training is another run.
    """
    settings = tool.settings_for(pair.dataset)
    row = BenchmarkRow(
        pair.dataset,
        pair.fixed.name,
        pair.moving.name,
        name,
        "",
        threads,
        NOT_INSTALLED,
        commit=commit(),
        machine=machine(),
    )
    if tool.runner == OWN:
        if settings["model"] is None:
            return replace(
                row,
                settings=_text(settings),
                reason=f"no model; train one and give --model {name}=FOLDER with --dataset {pair.dataset}",
            )
        try:
            settings["weights"] = _fingerprint(settings["model"])
        except InputError as error:
            return replace(row, settings=_text(settings), reason=str(error))
    return replace(row, settings=_text(settings), status=PLANNED)


def run(row: BenchmarkRow, tool: Tool, prepared: Prepared, folder: Path, run_settings: RunSettings) -> BenchmarkRow:
    """The row with the figures of its run in ``folder``, or with the reason why there are none."""
    settings = json.loads(row.settings)
    settings.pop("weights", None)
    job = folder / "job.json"
    job.write_text(
        json.dumps(
            {
                "fixed": str(prepared.fixed),
                "moving": str(prepared.moving),
                "output": str(folder),
                "threads": run_settings.threads,
                "settings": settings,
                "started": time.time(),
            }
        ),
        encoding="utf-8",
    )
    began = time.monotonic()
    status, reason = _child(tool, job, run_settings)
    row = replace(row, status=status, reason=reason, seconds_total=time.monotonic() - began)
    if status != OK:
        return row
    try:
        measured: dict[str, Any] = json.loads((folder / "measured.json").read_text(encoding="utf-8"))
        maps = tool.read(folder, Grid.of(prepared.fixed_labels))
        figures = measure(maps, prepared.affine, prepared.fixed_labels, prepared.moving_labels, prepared.values)
    except (OSError, RuntimeError, InputError) as error:
        return replace(row, status=FAILED, reason=f"its output cannot be used: {_last_line(str(error))}")
    return replace(row, **measured, **asdict(figures))


def _child(tool: Tool, job: Path, run_settings: RunSettings) -> tuple[str, str]:
    """Status and reason of the runner's process; its output goes to log.txt beside the job."""
    variables = os.environ | dict.fromkeys(THREAD_VARIABLES, str(run_settings.threads))
    log = job.with_name("log.txt")
    try:
        with log.open("w", encoding="utf-8") as file:
            ended = subprocess.run(
                [run_settings.pythons[tool.package], str(RUNNERS / tool.runner), str(job)],
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                env=variables,
                timeout=run_settings.limit_s,
            )
    except subprocess.TimeoutExpired:
        return TIME, f"ended after {run_settings.limit_s:g} s"
    except OSError as error:
        return NOT_INSTALLED, f"{run_settings.pythons[tool.package]}: {error.strerror}"
    said = _last_line(log.read_text(encoding="utf-8", errors="replace"))
    if ended.returncode == runner.NOT_INSTALLED:
        return NOT_INSTALLED, said
    if ended.returncode < 0:
        return FAILED, f"died of {signal.Signals(-ended.returncode).name}"
    return (OK, "") if ended.returncode == 0 else (FAILED, said or f"exit code {ended.returncode}")


def _fingerprint(model: str) -> str:
    """The first digits of the SHA-256 of a model's weights, none where it has no weights; InputError without model."""
    if model in models_without_weights():
        return ""
    return hashlib.sha256((model_folder(model) / "weights.safetensors").read_bytes()).hexdigest()[:8]


def _text(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
