"""The extension as Slicer's build machine makes it: configured, built, installed, and run from there."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUB = Path(__file__).parent / "cmake_stub"
INSTALLED = "lib/Slicer-5.12/qt-scripted-modules"
PACKAGED = ("CLMorphCore", "CLMorphSlicer")
ALLOWED = {"slicer", "vtk", "qt", "ctk", "SimpleITK", "numpy", "CLMorphSlicerLib"} | set(sys.stdlib_module_names)


def files_of(folder: Path) -> set[Path]:
    """Files of a packaged folder, relative to it; what belongs to the build or to Python's cache left out."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path for path in found if "__pycache__" not in path.parts and path.name != "CMakeLists.txt"}


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(build folder, folder where the modules are installed), made with CMake."""
    assert shutil.which("cmake"), "the extension is built with CMake: apt-get install cmake"
    folder = tmp_path_factory.mktemp("packaging")
    run("cmake", "-S", ROOT, "-B", folder / "build", f"-DSlicer_DIR={STUB}")
    run("cmake", "--build", folder / "build")
    run("cmake", "--install", folder / "build", "--prefix", folder / "installed")
    return folder / "build", folder / "installed" / INSTALLED


def test_every_file_of_both_folders_is_installed_and_nothing_else(built):
    _, installed = built
    expected = files_of(ROOT / "CLMorphSlicer") | {"CLMorphCore" / path for path in files_of(ROOT / "CLMorphCore")}
    assert files_of(installed) == expected
    assert not list(installed.rglob("__pycache__"))
    assert (installed / "CLMorphSlicer.py").is_file()
    assert (installed / "CLMorphCore" / "__main__.py").is_file()


def test_engine_runs_where_it_is_installed(built, tmp_path):
    _, installed = built
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "CLMorphCore", "models"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    shipped = {path.parent.name for path in (ROOT / "CLMorphCore").glob("models/*/card.toml")}
    assert all(name in done.stdout for name in shipped)


def test_a_new_file_is_packaged_without_a_new_list(built, tmp_path):
    for name in ("CMakeLists.txt", *PACKAGED):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DSlicer_DIR={STUB}")
    new = Path("models") / "new" / "card.toml"
    (tmp_path / "CLMorphCore" / new).parent.mkdir(parents=True)
    (tmp_path / "CLMorphCore" / new).write_text("[model]\n")
    run("cmake", "--build", tmp_path / "build")
    assert (tmp_path / "build" / INSTALLED / "CLMorphCore" / new).is_file()


def described_by_cmake(build: Path) -> dict[str, str]:
    lines = (build / "description.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines)


def described_by_s4ext() -> dict[str, str]:
    lines = (ROOT / "CLMorphSlicer.s4ext").read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))


def test_the_three_descriptions_agree(built):
    by_cmake, by_s4ext = described_by_cmake(built[0]), described_by_s4ext()
    by_json = json.loads((ROOT / "CLMorphSlicer.json").read_text(encoding="utf-8"))
    assert by_cmake["NAME"] == "CLMorphSlicer"
    for name in ("HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"):
        assert by_s4ext[name.lower()] == by_cmake[name]
    assert by_json["build_dependencies"] == by_cmake["DEPENDS"].split()
    assert by_json["category"] == by_s4ext["category"]
    assert by_json["scm_url"] == by_s4ext["scmurl"] == by_cmake["HOMEPAGE"]
    assert by_json["scm_revision"] == by_s4ext["scmrevision"]
    assert by_json["build_subdirectory"] == by_s4ext["build_subdirectory"]
    assert by_json["$schema"].endswith("catalog-entry-schema-v1.0.1.json#")


def test_pictures_of_the_description_are_in_the_repository(built):
    described = described_by_cmake(built[0])
    for url in [described["ICONURL"], *described["SCREENSHOTURLS"].split()]:
        inside = re.fullmatch(r"https://raw\.githubusercontent\.com/CLMorph/CLMorph/main/(.+)", url)[1]
        assert (ROOT / inside).read_bytes().startswith(b"\x89PNG")


def test_licence_is_the_whole_apache_2():
    text = (ROOT / "LICENSE.txt").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_licence_of_each_model_is_named_in_the_description(built):
    described = described_by_cmake(built[0])["DESCRIPTION"]
    for path in (ROOT / "CLMorphCore" / "models").glob("*/card.toml"):
        model = tomllib.loads(path.read_text(encoding="utf-8"))["model"]
        assert f"{model['name']} {model['licence']}" in described


def test_one_name_everywhere(built):
    """Extension, module, title and catalogue entry have one name, and the tutorial stands where the help points to."""
    assert described_by_cmake(built[0])["NAME"] == "CLMorphSlicer"
    assert (ROOT / "CLMorphSlicer.json").is_file() and (ROOT / "CLMorphSlicer.s4ext").is_file()
    source = (ROOT / "CLMorphSlicer" / "CLMorphSlicer.py").read_text(encoding="utf-8")
    assert 'parent.title = _("CLMorphSlicer")' in source
    page, anchor = re.search(r"blob/main/(\S+)#(\w+)\"", source).groups()
    assert f"## {anchor.capitalize()}" in (ROOT / page).read_text(encoding="utf-8")


# -- Python 3.11 to 3.13: 5.10 and 5.12 have 3.12

# from the standard library, by 3.12 and 3.13
REMOVED = "asynchat asyncore distutils imp smtpd aifc audioop cgi cgitb chunk crypt imghdr mailcap msilib nis nntplib"
REMOVED += " ossaudiodev pipes sndhdr spwd sunau telnetlib uu xdrlib lib2to3"


@pytest.mark.parametrize("path", sorted((ROOT / "CLMorphSlicer").rglob("*.py")), ids=lambda path: path.name)
def test_module_uses_nothing_that_one_of_the_versions_lacks(path):
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 11))
    assert not {name for name in all_imports(tree) if name in REMOVED.split()}


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_module_is_imported_by_each_version(version, tmp_path):
    python = find_python(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed here")
    code = (
        "import sys, types, unittest.mock as mock\n"
        "class Anything(mock.MagicMock):\n"
        "    __all__ = ()\n"
        "for name in ('qt', 'ctk', 'slicer', 'slicer.util', 'slicer.i18n', 'slicer.parameterNodeWrapper', 'vtk',\n"
        "             'slicer.ScriptedLoadableModule', 'numpy', 'SimpleITK', 'vtk.util', 'vtk.util.numpy_support'):\n"
        "    sys.modules[name] = Anything()\n"
        "for name in ('ScriptedLoadableModule', 'ScriptedLoadableModuleWidget', 'ScriptedLoadableModuleLogic',\n"
        "             'ScriptedLoadableModuleTest'):\n"
        "    setattr(sys.modules['slicer.ScriptedLoadableModule'], name, type(name, (), {}))\n"
        "sys.modules['slicer.util'].VTKObservationMixin = type('VTKObservationMixin', (), {})\n"
        "sys.modules['slicer.parameterNodeWrapper'].parameterNodeWrapper = lambda described: described\n"
        "for name in ('vtkMRMLSegmentationNode', 'vtkMRMLLabelMapVolumeNode'):\n"
        "    setattr(sys.modules['slicer'], name, type(name, (), {}))\n"
        f"sys.path.append({str(ROOT / 'CLMorphSlicer')!r})\n"
        "import CLMorphSlicer\n"
        "print(CLMorphSlicer.CLMorphSlicerWidget.__name__)\n"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([python, "-c", code], capture_output=True, encoding="utf-8", env=environment, timeout=120)
    assert done.returncode == 0 and done.stdout == "CLMorphSlicerWidget\n", done.stderr


def find_python(version: str) -> str | None:
    """An interpreter of a version: this one, one on the PATH, or one that pyenv keeps; None where none runs."""
    own = [sys.executable] if version == f"{sys.version_info.major}.{sys.version_info.minor}" else []
    kept = (Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python{version}")
    for python in (*own, shutil.which(f"python{version}"), *kept):
        if python and subprocess.run([python, "--version"], capture_output=True, check=False).returncode == 0:
            return str(python)
    return None


def all_imports(tree: ast.Module) -> set[str]:
    """Top-level packages that are imported anywhere in a file."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def imports_at_file_scope(tree: ast.Module) -> set[str]:
    """Top-level packages that are imported when the file is, however deep in `if` or `try` the import stands."""
    names, waiting = set(), list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return names


@pytest.mark.parametrize("path", sorted((ROOT / "CLMorphSlicer").rglob("*.py")), ids=lambda path: path.name)
def test_module_imports_only_what_slicer_brings(path):
    assert imports_at_file_scope(ast.parse(path.read_text(encoding="utf-8"))) <= ALLOWED


def test_import_finder_sees_nested_imports_and_not_those_in_functions():
    source = "try:\n    import torch.nn\nexcept OSError:\n    pass\ndef f():\n    import monai\nfrom . import nodes\n"
    assert imports_at_file_scope(ast.parse(source)) == {"torch"}
