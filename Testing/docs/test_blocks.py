"""Nothing written that is not run: commands on the pages parse, their code runs on small data or fits the library."""

import ast
import importlib.util
import re
import shlex
import tomllib
from functools import cache
from pathlib import Path

import pytest
import SimpleITK as sitk
from site_pages.blocks import Block, blocks_of, commands_of
from site_pages.places import DOCS, ROOT, pages

import CLMorphCore
from CLMorphCore.cli import build_parser
from CLMorphCore.io.series import ImageSeries, write_series

PAGES = [*pages(), ROOT / "Training" / "README.md", ROOT / "Training" / "results" / "README.md"]
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SHELL = [block for block in BLOCKS if block.language in ("sh", "bash")]
PYTHON = [block for block in BLOCKS if block.language == "python" and block.page.parent.name != "tutorials"]
LANGUAGES = {"sh", "python", "text", "csv", "yaml", "bibtex", "toml", "json", ""}
# What a shell and every system has; whatever else a block calls is a command that is checked below.
TOOLS = {"cat", "cd", "cp", "cut", "echo", "export", "find", "git", "head", "ls", "mkdir", "printf", "sort", "tar"}
TOOLS |= {"for", "do", "done", "if", "then", "fi", "."}
VARIABLES = {"$SLURM_ARRAY_TASK_ID": "1", "$gpu": "0", "$CLMORPH_DATA": "data", "${n}": "01", "$n": "01"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINNED = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line
)
# Whose code needs what the tests have not: checked by names and arguments alone.
IN_SLICER = {"slicer.md"}
NEEDS_A_SERIES_OF_DICOM = "write_dicom_seg"
NEEDS_A_CLUSTER = "dask_jobqueue"


def test_pages_have_blocks_of_known_languages():
    assert len(SHELL) > 30 and len(PYTHON) > 5
    assert {block.language for block in BLOCKS} <= LANGUAGES


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands_parse(block):
    for command in commands_of(_without_texts(block.code)):
        for part in re.split(r"\s(?:&&|\|\||\|)\s|;\s|\s&$|\$\(", command):
            if not block.not_run or "clmorph" in part.split()[:1]:
                _check(part.strip(" )"), block)


def _without_texts(code: str) -> str:
    """A shell block without what it writes into files, and without programs in quotes."""
    code = re.sub(r"<<END\n.*?^END$", "", code, flags=re.M | re.S)
    return re.sub(r'-c "\n.*?^"', "-c pass", code, flags=re.M | re.S)


def _check(command: str, block: Block) -> None:
    for name, value in VARIABLES.items():
        command = command.replace(name, value)
    words = shlex.split(re.sub(r"\s(?:2>&1|>+ ?\S+)", "", command))
    while words and (re.fullmatch(r"\w+=\S*", words[0]) or words[0] in ("{", "}", "do")):
        words = words[1:]
    if not words or words[0].startswith("run()"):
        return
    name, *rest = words
    checks = {
        "clmorph": _clmorph,
        "torchrun": lambda rest: _clmorph(rest[rest.index("CLMorphCore") + 1 :]),
        "python": _python,
        "python3": _python,
        "pip": _pip,
        "make": _make,
        "dask": _dask,
    }
    if name.endswith("bin/pip"):
        return
    if name in checks:
        checks[name](rest)
    elif "/" in name:
        assert (ROOT / name).is_file(), f"{block}: {name} is not there"
    else:
        assert name in TOOLS or name in ("run", "pre-commit", "apt-get"), f"{block}: nothing checks {name}"


def _clmorph(words: list[str]) -> None:
    """InputError, which is a failure, for what the command line does not take."""
    if words not in (["--help"], ["--version"]):
        build_parser().parse_args(words)


def _python(words: list[str]) -> None:
    if words[0] in ("-c", "-m") and words[1] in ("pass", "venv", "pytest", "build"):
        return
    if words[0] != "-m":
        assert (ROOT / words[0]).is_file()
        return
    if words[1] == "CLMorphCore":
        return _clmorph(words[2:])
    if words[1] == "Training.recipes.NAME.prepare":
        return None
    spec = importlib.util.find_spec(words[1]) or pytest.fail(f"no module {words[1]}")
    file = Path(spec.origin)
    file = file.with_name("__main__.py") if file.name == "__init__.py" else file
    known = set(re.findall(r'"(--[a-z-]+)"', file.read_text(encoding="utf-8")))
    known |= set(re.findall(r'"(--[a-z-]+)"', (ROOT / "Training" / "command_line.py").read_text(encoding="utf-8")))
    assert {word for word in words[2:] if word.startswith("--")} <= known
    return None


def _pip(words: list[str]) -> None:
    assert words[0] == "install"
    for word in words[1:]:
        if extras := re.fullmatch(r"\.\[(.+)\]", word):
            assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
        elif "==" in word:
            name, _, version = word.partition("==")
            assert PINNED.get(name, version) == version, f"{word}; constraints.txt has {PINNED[name]}"


def _make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in words)


def _dask(words: list[str]) -> None:
    from click.testing import CliRunner
    from distributed.cli import dask_scheduler, dask_worker

    command = {"scheduler": dask_scheduler, "worker": dask_worker}[words[0]].main
    known = CliRunner().invoke(command, ["--help"]).output
    assert all(word in known for word in words[1:] if word.startswith("--"))


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in ("sh", "bash", "python") and b.not_run], ids=str)
def test_what_is_not_run_says_why(block):
    assert len(block.not_run) > 10


@pytest.fixture
def folder_of_a_reader(tmp_path, monkeypatch, small_model, small_scan):
    """What code on the pages reads, made small; every model is the small one."""
    for name in ("t1", "one", "two", "fixed", "moving", "scan"):
        sitk.WriteImage(small_scan, str(tmp_path / f"{name}.nii.gz"))
    write_series([small_scan] * 2, tmp_path / "cine.nii.gz", ImageSeries((small_scan, small_scan)))
    loaded = CLMorphCore.load_model(small_model)
    monkeypatch.setattr(CLMorphCore, "load_model", lambda name, device="cpu": loaded)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _runs(block: Block) -> bool:
    return block.page.name not in IN_SLICER and not any(
        word in block.code for word in (NEEDS_A_SERIES_OF_DICOM, NEEDS_A_CLUSTER, "CLMorphSlicer")
    )


@pytest.mark.parametrize("block", [block for block in PYTHON if _runs(block)], ids=str)
def test_code_runs(block, folder_of_a_reader):
    code = block.code.replace("cine.seq.nrrd", "cine.nii.gz").replace("steps=50", "steps=1")
    exec(compile(code, str(block), "exec"), {})


@pytest.mark.parametrize("block", [block for block in PYTHON if not _runs(block)], ids=str)
def test_code_that_needs_more_fits_what_it_calls(block):
    tree = ast.parse(block.code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("CLMorphCore"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)
        if isinstance(node, ast.Call) and (known := _keywords(node)) is not None:
            assert {keyword.arg for keyword in node.keywords} <= known
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "results":
            assert node.attr in _fields("results.py", "Results")


def _keywords(call: ast.Call) -> set[str] | None:
    """What a call of Slicer's logic may name; None of another call."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in ("segment", "register"):
        return None
    kind = "Options" if call.func.attr == "segment" else "RegisterOptions"
    return _fields("options.py", kind) | {"model"}


@cache
def _fields(file: str, kind: str) -> set[str]:
    """Fields, properties and those of the bases of a class of the module's library."""
    tree = ast.parse((ROOT / "CLMorphSlicer" / "CLMorphSlicerLib" / file).read_text(encoding="utf-8"))
    classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    own = classes[kind]
    found = {node.target.id for node in own.body if isinstance(node, ast.AnnAssign)}
    found |= {node.name for node in own.body if isinstance(node, ast.FunctionDef)}
    for base in own.bases:
        if isinstance(base, ast.Name) and base.id in classes:
            found |= _fields(file, base.id)
    return found


def test_a_wrong_command_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```sh\nclmorph segment a.nii.gz --modle brain -o out/\n```\n", encoding="utf-8")
    (block,) = blocks_of(page)
    with pytest.raises(CLMorphCore.InputError, match="modle"):
        test_commands_parse(block)


def test_every_tutorial_shows_what_its_commands_print():
    for page in (DOCS / "tutorials").glob("*.md"):
        shown = [block for block in blocks_of(page) if block.language == "text"]
        assert len(shown) >= 5 and all(block.code.strip() for block in shown)
