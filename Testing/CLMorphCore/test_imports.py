"""Imports point one way, files stay small, and importing costs nothing that was not asked for."""

import ast
from pathlib import Path

import pytest

CORE = Path(__file__).parents[2] / "CLMorphCore"
# module → the modules of this package that it may import
ALLOWED = {
    "errors": set(), "files": {"errors"}, "itk_files": {"errors", "files"},
    "progress": {"errors"}, "devices": {"errors"},
    "spatial": set(), "losses": {"errors", "spatial"}, "gradients": {"spatial"},
    "refinement": {"gradients", "losses", "progress", "spatial"},
    "networks": {"errors", "gradients", "losses", "spatial"}, "config": {"errors", "networks"},
    "augmentation": {"config", "spatial"},
    "objective": {"batches", "config", "contrast", "losses", "networks", "spatial"},
    "contrast": {"losses"}, "checkpoint": {"errors", "files"},
    "geometry": {"errors"}, "preprocessing": {"errors", "itk_files"}, "alignment": {"errors", "geometry", "itk_files"},
    "fusion": {"data", "errors", "geometry", "losses", "models", "networks", "progress", "refinement", "registration",
               "spatial"},
    "trust": {"errors", "files", "geometry", "losses", "models", "registration", "spatial"},
    "metrics": {"errors", "geometry"}, "reports": {"errors", "geometry", "metrics"},
}
THIRD_PARTY = {
    "errors": set(), "files": set(), "itk_files": {"SimpleITK", "numpy"}, "cli": set(),
    "spatial": {"torch"}, "losses": {"torch"}, "gradients": {"torch"}, "refinement": {"torch"}, "networks": {"torch"},
    "config": set(),
    "augmentation": {"torch"}, "contrast": {"torch"}, "checkpoint": {"torch", "safetensors"},
    "geometry": {"torch", "SimpleITK", "numpy"}, "preprocessing": {"torch", "SimpleITK", "numpy"},
    "alignment": {"SimpleITK", "numpy"}, "metrics": {"SimpleITK", "numpy"}, "reports": {"SimpleITK", "numpy"},
}
KNOWN = {"torch", "numpy", "SimpleITK", "safetensors", "tqdm", "tensorboard", "scipy", "slicer", "vtk", "qt"}
SOURCES = sorted(CORE.rglob("*.py"))


def module_of(path):
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def imports(path, *, file_scope=False):
    """(modules of this package, other packages) that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own, others = set(), set()
    inside = len(path.relative_to(CORE).parts) - 1  # a dot more in a subfolder
    for node in (tree.body if file_scope else ast.walk(tree)):
        if isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0 and node.module.startswith("CLMorphCore."):
                own.add(node.module.split(".")[1])
            elif node.level == 0:
                others.add(node.module.split(".")[0])
            elif node.level > inside:
                own |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
    return own - {"__version__"}, others & KNOWN


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(CORE)))
def test_imports_point_one_way(path):
    own, others = imports(path)
    module = module_of(path)
    if module in ALLOWED:
        assert own <= ALLOWED[module]
    if module in THIRD_PARTY:
        assert others <= THIRD_PARTY[module]
    assert not others & {"slicer", "vtk", "qt"}, "the engine knows nothing of Slicer"
    assert "commands" not in own or module == "cli"


def test_the_command_lines_help_needs_the_standard_library_only():
    own, others = imports(CORE / "cli.py", file_scope=True)
    assert own <= {"errors"} and not others


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(CORE)))
def test_files_and_functions_stay_readable(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name != "fit":  # the one flat loop
            assert node.end_lineno - node.lineno < 60, node.name
