"""The arrows between rooms: who may import whom, read from the import statements themselves."""

import ast
import collections
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cervix_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
PROGRAMS = {path.stem for path in PACKAGE.glob("*.py") if "__main__" in path.read_text()}
SHARED = {"atomic", "errors", "cache", "labels", "progress"}  # what every room may import
RUN = {"config", "runs"}
MAY_IMPORT = {
    "images": SHARED,
    "models": SHARED,
    "datasets": {"images"} | SHARED,
    "auditing": {"datasets", "images"} | SHARED,
    "training": {"models", "datasets", "images"} | RUN | SHARED,
    "inference": {"training", "models", "datasets", "images"} | RUN | SHARED,
    "explainers": {"inference", "training", "models", "images"} | RUN | SHARED,
    "plots": {"explainers", "inference", "training", "images"} | RUN | SHARED,
    "experiments": {"plots", "inference", "training", "models", "datasets"} | RUN | SHARED,
    "benchmarks": {"inference", "training", "models", "datasets", "images"} | RUN | SHARED,
    "planning": {"benchmarks", "training", "models", "config"} | SHARED,
    "cli": {"inference", "training", "datasets"} | RUN | SHARED,
}


def imports(path: Path) -> set[str]:
    """Rooms and top-level modules of the package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("cervix_jax.")}
    return found


def outside(path: Path) -> set[str]:
    """Other packages that a file imports when it is imported itself."""
    body = ast.parse(path.read_text()).body
    names = [alias.name for node in body if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in body if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


def test_the_programs_are_those_of_the_contract() -> None:
    names = "train prepare audit calibrate evaluate predict explain export reproduce benchmark plan"
    assert set(names.split()) == PROGRAMS


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_one_way(path: Path) -> None:
    assert not imports(path) & PROGRAMS
    room = path.relative_to(PACKAGE).parts[0]
    if room in MAY_IMPORT:
        assert imports(path) <= MAY_IMPORT[room] | {room}


NUMPY_ALONE = [path for room in ("images", "datasets", "auditing") for path in sorted((PACKAGE / room).glob("*.py"))]


@pytest.mark.parametrize("path", NUMPY_ALONE, ids=lambda path: path.stem)
def test_photographs_are_read_with_numpy_alone(path: Path) -> None:
    """Its worker processes must start fast and never open an accelerator."""
    assert not {"jax", "flax", "optax", "orbax"} & outside(path)


def test_no_two_modules_have_one_name() -> None:
    counts = collections.Counter(path.stem for path in FILES if path.stem != "__init__")
    assert not [name for name, count in counts.items() if count > 1]
