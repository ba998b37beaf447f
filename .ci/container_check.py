"""The steps of the Dockerfile, without a container engine: make container-check.

A folder stands in place of the image's root. Every COPY and RUN is done there, then the entry is run as a BIDS App on
two made-up scans: without a network and as another user, where this machine lets us; what it does not is said.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from dockerfile import Instruction, environment, instructions, last

ROOT = Path(__file__).parents[1]
OWN = re.compile(r"(?<![\w./-])/(?=(?:opt|src|in|out)\b)")  # paths of the image that the steps name
# A worker is a Python of its own, which does not find its library where another user may not read it, as below /root.
STARTS = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import SimpleITK'], check=True)"
MAKE_SCANS = """
import json, pathlib, sys
import SimpleITK as sitk
from CLMorphCore import load_model
from CLMorphCore.bundles.phantom import make_phantom
folder = pathlib.Path(sys.argv[1])
(folder / "dataset_description.json").write_text(json.dumps({"Name": "made up", "BIDSVersion": "1.10.0"}))
for n in (1, 2):
    place = folder / f"sub-0{n}" / "anat"
    place.mkdir(parents=True)
    scan = make_phantom(load_model("hippocampus").atlases[0], seed=n).image
    sitk.WriteImage(scan, str(place / f"sub-0{n}_T1w.nii.gz"))
"""


def main() -> int:
    """Does the steps and runs the entry; the exit code of what fails first."""
    found = instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        try:
            _build(found, root)
            _use(found, root)
        except subprocess.CalledProcessError as error:
            print(f"container-check: {error}", file=sys.stderr)
            return error.returncode or 1
    print("container-check: every step ran, and the entry as a BIDS App")
    return 0


def _build(found: Sequence[Instruction], root: Path) -> None:
    folder, variables = root, {}
    for each in found:
        print(f"{each.word} {each.text}", flush=True)
        if each.word == "ARG":
            name, _, value = each.text.partition("=")
            variables[name] = os.environ.get(name, value)
        elif each.word == "WORKDIR":
            folder = root / each.text.lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
        elif each.word == "COPY":
            _copy(each.listed, root)
        elif each.word == "RUN":
            code = OWN.sub(f"{root}/", each.text).replace("python -m venv", f"{sys.executable} -m venv")
            _run(["bash", "-ec", code], folder, _inherited() | variables)


def _copy(words: Sequence[str], root: Path) -> None:
    """From the project; what comes from another stage is in its place already, all stages have one root here."""
    *sources, target = words
    if sources[0].startswith("--from="):
        assert (root / target.lstrip("/")).is_dir() and sources[1:] == [target], words
        return
    for source in sources:
        place = root / target.lstrip("/")
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__", "results"))
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, place)


def _use(found: list[Instruction], root: Path) -> None:
    """The entry on made-up scans, with nothing of this machine's environment but what the image sets."""
    variables = {name: OWN.sub(f"{root}/", value) for name, value in environment(found).items()}
    variables["PATH"] = ":".join(OWN.sub(f"{root}/", each) for each in environment(found)["PATH"].split(":"))
    scans, out = root / "in", root / "out"
    for place in (scans, out):
        place.mkdir()
        place.chmod(0o777)
    _run([f"{root}/opt/clmorph/bin/python", "-c", MAKE_SCANS, str(scans)], root, variables)
    entry = [f"{root}/opt/clmorph/bin/{last(found, 'ENTRYPOINT').listed[0]}", *last(found, "ENTRYPOINT").listed[1:]]
    words = [str(scans), str(out), "participant", "--model", "hippocampus", "--progress", "none"]
    _run([*_alone(root, variables), *entry, *words], root, variables)
    labels = sorted(out.rglob("*dseg.nii.gz"))
    assert len(labels) == 2, f"expected two label maps, found {labels}"


def _alone(root: Path, variables: Mapping[str, str]) -> list[str]:
    """What a command is begun with so that it has no network and is another user, as far as that can be had here."""
    prefix: list[str] = []
    for name, words in (
        ("without a network", ["unshare", "--net", "--map-root-user"] if os.geteuid() else ["unshare", "--net"]),
        ("as another user", ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]),
    ):
        test = [*prefix, *words, f"{root}/opt/clmorph/bin/python", "-c", STARTS]
        if shutil.which(words[0]) and not subprocess.run(test, env=dict(variables), capture_output=True).returncode:
            prefix += words
        else:
            print(f"container-check: this machine does not let us run it {name}")
    return prefix


def _inherited() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def _run(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> None:
    subprocess.run(command, cwd=folder, env=dict(variables), check=True)


if __name__ == "__main__":
    raise SystemExit(main())
