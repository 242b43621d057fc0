"""The arrows between rooms and the shape of the tree, read from the files themselves."""

import ast
import collections
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cervix_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = [path for path in FILES if path.stem != "__init__"]
PROGRAMS = {path.stem for path in PACKAGE.glob("*.py") if "app.run(" in path.read_text()} - {"__main__"}
SHARED = {
    "atomic",
    "csv_files",
    "html_page",
    "outputs",
    "errors",
    "cache",
    "labels",
    "lock",
    "progress",
}  # what every room may import
RUN = {"config", "runs"}
MAY_IMPORT = {
    "images": SHARED,
    "models": SHARED,
    "datasets": {"images"} | SHARED,
    "auditing": {"datasets", "images"} | SHARED,
    "training": {"models", "datasets", "images"} | RUN | SHARED,
    "inference": {"training", "models", "datasets", "images"} | RUN | SHARED,
    "workflows": {"inference", "training", "datasets", "images"} | RUN | SHARED,
    "explainers": {"inference", "training", "models", "images"} | RUN | SHARED,
    "plots": {"explainers", "inference", "training", "images"} | RUN | SHARED,
    "experiments": {"plots", "inference", "training", "models", "datasets"} | RUN | SHARED,
    "benchmarks": {"cli", "inference", "training", "models", "datasets", "images"} | RUN | SHARED,
    "serving": {"plots", "explainers", "inference", "images"} | SHARED,
    "planning": {"benchmarks", "training", "models", "config"} | SHARED,
    "cli": {"inference", "training", "datasets"} | RUN | SHARED,
}
# Modules whose tests are elsewhere than the tree says, and why.
TESTED_ELSEWHERE = {
    **{f"{name}.py": "tests/test_programs.py" for name in PROGRAMS},  # flags, calls and printing; started as users do
    "__main__.py": "tests/test_programs.py",
    "cli/output_flags.py": "tests/test_programs.py",  # a flag
    "constraints.py": "tests/test_config.py",  # through `config.validate`
    "errors.py": "tests/test_programs.py",  # two exceptions without code of their own
    "labels.py": "tests/datasets/test_kaggle.py",  # constants
    "benchmarks/first_step.py": "tests/test_benchmark.py",  # a program that `--what=startup` starts
}
MAX_LINES = 400


def imported_names(path: Path, nodes: list[ast.stmt] | None = None) -> set[str]:
    """Dotted names of everything that a file imports, or that the statements given import."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())) if nodes is None else nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def imported_rooms(path: Path) -> set[str]:
    """Rooms and top-level modules of the package that a file imports."""
    return {name.split(".")[1] for name in imported_names(path) if name.startswith("cervix_jax.")}


def test_the_programs_are_those_of_the_contract() -> None:
    names = (
        "prepare audit check train crossvalidate calibrate evaluate compare predict explain export reproduce benchmark"
    )
    names += " plan serve options"
    assert set(names.split()) == PROGRAMS


def test_the_rooms_are_known_and_have_no_cycle() -> None:
    assert {path.parent.relative_to(PACKAGE).parts[0] for path in FILES if path.parent != PACKAGE} == set(MAY_IMPORT)
    graphlib.TopologicalSorter(MAY_IMPORT).prepare()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_one_way(path: Path) -> None:
    if path == PACKAGE / "__init__.py":  # the door to the API of notebooks
        assert imported_rooms(path) == {"api"}
        return
    assert not imported_rooms(path) & (PROGRAMS | {"api"})
    room = path.relative_to(PACKAGE).parts[0]
    if room in MAY_IMPORT:
        assert imported_rooms(path) <= MAY_IMPORT[room] | {room}


WITHOUT_JAX = [path for room in ("images", "datasets", "auditing") for path in sorted((PACKAGE / room).rglob("*.py"))]


@pytest.mark.parametrize("path", WITHOUT_JAX, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_photographs_are_read_without_jax(path: Path) -> None:
    """Their worker processes must start fast and never open an accelerator."""
    top_level = {name.partition(".")[0] for name in imported_names(path, ast.parse(path.read_text()).body)}
    assert not {"jax", "flax", "optax", "orbax"} & top_level


def test_the_product_mocks_nothing() -> None:
    assert not [path for path in FILES if "unittest.mock" in imported_names(path)]


def test_no_two_modules_have_one_name() -> None:
    counts = collections.Counter(path.stem for path in MODULES)
    assert not [name for name, count in counts.items() if count > 1]


def test_every_module_has_its_tests_where_the_tree_says() -> None:
    missing = []
    for path in MODULES:
        module = path.relative_to(PACKAGE)
        tests = ROOT / "tests" / module.with_name(f"test_{module.name}")
        if not tests.exists() and not (ROOT / TESTED_ELSEWHERE.get(str(module), "nowhere")).exists():
            missing.append(str(tests.relative_to(ROOT)))
    assert missing == []


def test_every_test_file_has_its_module() -> None:
    """So that a module that moves takes its tests with it."""
    about_the_whole = {
        *("test_architecture.py", "test_configs.py", "test_links.py", "launch/test_launch.py"),
        *("test_programs.py", "test_program_errors.py"),
        "models/heads/test_heads.py",  # what every head of the registry promises
        "serving/test_browser.py",  # the page, in chromium
        "images/test_hostile_photographs.py",  # files made to break decoding, through every door that reads them
        "reliability/test_kill.py",  # programs that are killed
        *("training/test_layouts.py", "training/test_learning.py"),  # the whole of training: on meshes, to an accuracy
    }
    tests = {path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    modules = {path.relative_to(PACKAGE) for path in MODULES}
    stray = {str(path) for path in tests if path.with_name(path.name.removeprefix("test_")) not in modules}
    assert stray <= about_the_whole


def test_every_room_says_what_it_does() -> None:
    missing = [
        room
        for room in (*MAY_IMPORT, "../configs", "../launch", "../tests")
        if not (PACKAGE / room / "README.md").exists()
    ]
    assert missing == []


def test_no_file_is_longer_than_a_reader_s_patience() -> None:
    assert not [path for path in FILES if len(path.read_text().splitlines()) > MAX_LINES]
