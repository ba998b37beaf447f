"""Imports point down only, every module has its place, files stay small, and importing costs nothing unasked."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

CORE = Path(__file__).parents[2] / "CLMorphCore"
# Bottom up; a module imports from lower layers only. Every module of the engine stands here.
LAYERS = (
    ("arguments.kinds", "errors", "networks.halvings", "reports.page"),
    ("arguments.scans", "arguments.shared", "arguments.transforms"),
    (
        "atomic",
        "console",
        "devices",
        "io.dicom_codes",
        "geometry",
        "spatial",
        "io.compression",
        "io.files",
        "io.itk_child",
        "io.names",
        "io.nrrd_time",
        "io.tables",
        "io.dicom_phases",
        "series.choice",
    ),
    ("networks.contract", "progress", "io.checksums", "io.hdf5_writer", "io.itk"),
    ("metrics", "network_input", "similarity", "io.volume", "io.dicom_common", "io.outputs", "reports.report"),
    ("extraction.weights", "reports.summary", "io.label_grid"),
    ("guidance.masks",),
    ("aligning.polish", "guidance.landmarks"),
    ("alignment",),
    ("extraction.brain",),
    ("tissue.shares", "tissue.settings", "tissue.classes", "tissue.mixture"),
    ("tissue.pieces",),
    ("instance_optimization", "losses", "bundles.checkpoint", "networks.blocks", "reports.drawing", "io.dicom_pixels"),
    (
        "reports.pictures",
        "io.transform_formats",
        "io.dicom",
        "io.metaimage",
        "io.mgh",
        "io.nifti",
        "io.nrrd",
        "io.scratch",
    ),
    ("io.nifti_writer", "io.transforms", "bundles.mean_map", "reports.pictures", "applying.maps"),
    ("io.images", "io.frames", "io.displacement_fields", "io.points", "applying.images", "applying.description"),
    ("io.surfaces", "io.series", "io.pairs", "guidance.initial", "reports.pairs"),
    ("evaluating.pairs",),
    (
        "bundles.atlas",
        "io.manifest",
        "networks.clmorph",
        "networks.pyramid",
        "reports.evaluation",
        "reports.segmentation",
        "reports.series",
    ),
    ("io.label_files", "io.folders"),
    ("io.contrasts", "io.passed_over"),
    (
        "series.volumes",
        "bundles.palette",
        "io.dicom_seg",
        "io.layouts",
        "reports.cohort",
        "reports.thumbnails",
        "training.scans",
        "training.intensities",
        "training.log",
        "reports.training",
        "reports.atlas_picture",
    ),
    ("cohorts.bids", "cohorts.places", "io.dicom_sr", "training.labels", "training.mirrored", "training.warned"),
    ("networks.clmorph_byol", "networks.baselines.faim", "networks.baselines.lapirn", "networks.baselines.lddmm"),
    ("networks.baselines.lvm", "networks.baselines.pdd_net", "networks.baselines.syn"),
    ("networks.baselines.voxelmorph", "networks.baselines.vtn", "bundles.phantom", "training.byol"),
    ("networks", "training.digests", "training.fingerprint"),
    ("bundles.config", "bundles.refinement"),
    ("bundles.model", "training.augmentation", "training.views", "tissue.prepared"),
    ("aligning.prepared",),
    ("matching", "training.batches", "training.processes"),
    ("registration", "training.objective", "quality.evidence", "quality.uncertainty"),
    ("tissue.priors", "training.validation", "training.learner", "training.sharing"),
    ("tissue.expectation",),
    ("series.following", "fusion", "tissue.labels", "bundles.template", "quality.score", "training.loop"),
    (
        "quality.judgement",
        "extraction.recognise",
        "tissue.carried",
        "quality.corruptions",
        "training.alignments",
        "training.measuring",
    ),
    ("extraction.step", "quality.observations", "tissue.choosing", "training.plan"),
    ("quality.fitting", "training.starting", "training.stages"),
    ("training.grids",),
    ("training.planning",),
    ("reports.making",),
    ("segmentation",),
    ("extraction.sides", "series.registration", "series.segmentation"),
    ("evaluation", "training.splits", "cohorts.scans"),
    ("cohorts.results",),
    ("cohorts.tables", "cohorts.work"),
    ("cohorts.cluster", "cohorts.workers"),
    ("training.run", "training.run_page"),
    ("training.card", "training.propagation"),
    ("training.workflow",),
    ("morphometry.design",),
    ("morphometry.statistics", "morphometry.volumes"),
    ("morphometry.study",),
    ("morphometry.page",),
    ("morphometry.results",),
    ("commands.options",),
    ("commands.series",),
    ("commands.register_series",),
    (
        "commands.apply",
        "commands.build_atlas",
        "commands.cohort",
        "commands.evaluate",
        "commands.models",
        "commands.morphometry",
        "commands.register",
        "commands.segment",
    ),
    ("commands.demo", "commands.plan", "commands.transform"),
    ("commands.train",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
# Their __init__ holds a docstring.
ROOMS = {
    "aligning",
    "applying",
    "arguments",
    "bundles",
    "cohorts",
    "evaluating",
    "extraction",
    "guidance",
    "io",
    "morphometry",
    "networks.baselines",
    "quality",
    "reports",
    "series",
    "tissue",
    "training",
}
LAYER = {module: n for n, layer in enumerate(LAYERS) for module in layer}
# What a module may import of other packages, where that is less than everything of KNOWN.
THIRD_PARTY = {
    "errors": set(),
    "atomic": set(),
    "cli": set(),
    "bundles.config": set(),
    "reports.page": set(),
    "alignment": {"torch", "SimpleITK", "numpy"},
    "metrics": {"SimpleITK", "numpy"},
    "geometry": {"torch", "SimpleITK", "numpy"},
    "network_input": {"torch", "SimpleITK", "numpy"},
    "spatial": {"torch"},
    "losses": {"torch"},
    "similarity": {"torch"},
    "instance_optimization": {"torch"},
    "training.scans": {"SimpleITK", "numpy"},
    "training.fingerprint": {"numpy"},
    "training.grids": {"numpy"},
    "training.planning": {"numpy"},
}
ROOM_THIRD_PARTY = {
    "extraction": {"torch", "SimpleITK", "numpy"},
    "io": {"SimpleITK", "numpy", "pydicom"},
    "networks": {"torch"},
    "reports": {"SimpleITK", "numpy"},
    "training": {"torch", "SimpleITK", "numpy"},
}
KNOWN = {"torch", "numpy", "SimpleITK", "pydicom", "safetensors", "tqdm", "tensorboard", "scipy", "slicer", "vtk", "qt"}
SOURCES = sorted(CORE.rglob("*.py"))
MAX_ROOT_MODULES = 20
by_path = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CORE)))


def name_of(path: Path) -> str:
    """The dotted name below the package; a room's __init__ is the room, the package's own is empty."""
    parts = path.relative_to(CORE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, file_scope: bool = False) -> tuple[set[str], set[str]]:
    """(modules of this package, other packages) that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = path.relative_to(CORE).parts[:-1]
    own, others = set(), set()
    for node in tree.body if file_scope else ast.walk(tree):
        if isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            base = [part for part in base if part]
            for alias in node.names:
                whole = ".".join([*base, alias.name])
                own.add(whole if whole in LAYER else ".".join(base))
        elif isinstance(node, ast.ImportFrom):
            others.add((node.module or "").split(".")[0])
    return own - {""}, others


@by_path
def test_imports_point_down(path):
    own, others = imports(path)
    name = name_of(path)
    assert "CLMorphCore" not in others, "imports inside of the package are relative"
    assert not others & {"slicer", "vtk", "qt"}, "the engine knows nothing of Slicer"
    allowed = THIRD_PARTY.get(name, ROOM_THIRD_PARTY.get(name.split(".")[0]))
    if allowed is not None:
        assert others & KNOWN <= allowed
    if name in LAYER:
        assert [module for module in own if LAYER[module] >= LAYER[name]] == []
    else:
        assert name in ROOMS | {""}, f"{name} has no layer"
        assert not own or name == "", "a room's __init__ imports nothing"


def test_every_layer_names_modules_that_exist():
    assert LAYER.keys() <= {name_of(path) for path in SOURCES}


def test_the_engines_root_stays_a_short_list():
    assert len([path for path in CORE.glob("*.py") if not path.name.startswith("__")]) <= MAX_ROOT_MODULES


def test_the_command_lines_help_needs_the_standard_library_only():
    own, others = imports(CORE / "cli.py", file_scope=True)
    assert {each.partition(".")[0] for each in own} <= {"errors", "arguments"} and not others & KNOWN
    for path in (CORE / "arguments").glob("*.py"):
        own, others = imports(path)
        assert own <= {"arguments.kinds"} and not others & KNOWN


def test_a_segmentation_without_dicom_loads_neither_its_library_nor_symbolic_algebra():
    code = (
        "import sys, torch, CLMorphCore.commands; from CLMorphCore.tissue.mixture import field;"
        "field(torch.ones(19), torch.ones(2, 1, 1), torch.ones(1, 2, 1), torch.ones(1, 1, 2));"
        "sys.exit(str({'pydicom', 'sympy'} & set(sys.modules)) if {'pydicom', 'sympy'} & set(sys.modules) else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@by_path
def test_files_and_functions_stay_readable(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name


def test_no_array_is_a_view_of_an_image_that_nobody_keeps():
    """Of ``f(x)`` the memory is given back at once, and the array then shows what is written there next."""
    root, found = CORE.parent, []
    for path in (
        one for room in ("CLMorphCore", "CLMorphSlicer", "Training", "Testing") for one in (root / room).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("GetArrayViewFromImage"):
                found += [f"{path.name}:{node.lineno}"] if isinstance(node.args[0], ast.Call) else []
    assert found == []
