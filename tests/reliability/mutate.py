"""Changes the code in one place at a time: do its tests see it?

python -m tests.reliability.mutate [--modules=training/metrics,...] [--sample=40] [--seed=0]

Operators, comparisons, numbers, truth values, conditions and negations are changed, as mutmut and cosmic-ray change
them; of each module a random sample, since a test run takes seconds. Those tools start Python anew for each mutant,
which would take hours of imports: here each is a fork of a process that has imported JAX and the rest. A mutant
survives if the module's own tests pass. Prints each survivor as a difference of lines, and a table.
"""

import argparse
import ast
import copy
import difflib
import importlib
import importlib.machinery
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "cervix_jax"
MODULES = (
    *("datasets/cleaning", "datasets/splits", "training/metrics", "training/losses"),
    *("inference/ensemble", "inference/calibration", "inference/conformal", "inference/decisions"),
)
IMPORTED = (
    "jax jax.numpy flax.linen optax scipy.stats scipy.optimize sklearn.metrics matplotlib hypothesis orbax.checkpoint"
)
IMPORTED += (
    " tensorflow_datasets grain safetensors.numpy PIL.Image crepes sklearn.linear_model pytest beartype jaxtyping"
)
SECONDS = 120  # of CPU; mutants may loop for ever

SWAPPED: dict[type, type] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult},
    **{ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.MatMult: ast.Mult},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", default=",".join(MODULES))
    parser.add_argument("--sample", type=int, default=40, help="mutants of each module")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    prepare()
    rows = []
    for module in arguments.modules.split(","):
        path = PACKAGE / f"{module}.py"
        source = ast.unparse(ast.parse(path.read_text()))
        mutants = [text for text in mutated(source) if text != source]
        chosen = random.Random(f"{arguments.seed} {module}").sample(mutants, min(arguments.sample, len(mutants)))
        if not survives(path, source):
            raise SystemExit(f"the tests of {module} do not pass")
        survivors = [text for text in chosen if survives(path, text)]
        for text in survivors:
            lines = difflib.unified_diff(source.splitlines(), text.splitlines(), lineterm="", n=0)
            print(f"{module} survives:", *[line for line in lines if line[:2] not in ("--", "++", "@@")], sep="\n  ")
        rows.append(
            f"| {module} | {len(mutants)} | {len(chosen)} | {len(chosen) - len(survivors)} | {len(survivors)} |"
        )
        print(rows[-1], flush=True)
    print("| module | mutants | tried | killed | survived |\n|---|---|---|---|---|", *rows, sep="\n")


def prepare() -> None:
    """Imports what is not mutated, as `tests/conftest.py` would have it."""
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "JAX_COMPILATION_CACHE_DIR": tempfile.mkdtemp(prefix="cervix_jax_mutants_"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "PYTEST_XDIST_WORKER": "mutant",  # so that conftest.py makes no folder of its own
        "OPENBLAS_NUM_THREADS": "1",
    }
    for name in IMPORTED.split():
        importlib.import_module(name)


def mutated(source: str) -> Iterator[str]:
    """The source with one change, for each place that can be changed."""
    tree = ast.parse(source)
    number = sum(1 for _ in changes(tree))
    for i in range(number):
        changed = copy.deepcopy(tree)
        for j, change in enumerate(changes(changed)):
            if j == i:
                change()
                break
        yield ast.unparse(changed)


def changes(tree: ast.AST) -> Iterator:
    """What makes one change to a tree, for each place; annotations, texts and `strict=` are left alone."""
    for node in walk(tree):
        if isinstance(node, ast.Compare):
            for k, operator in enumerate(node.ops):
                if type(operator) in SWAPPED:
                    yield lambda node=node, k=k: node.ops.__setitem__(k, SWAPPED[type(node.ops[k])]())
        elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in SWAPPED:
            yield lambda node=node: setattr(node, "op", SWAPPED[type(node.op)]())
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield lambda node=node: setattr(node, "value", not node.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            yield lambda node=node: setattr(node, "value", node.value + 1)
        elif isinstance(node, ast.If | ast.IfExp | ast.While):
            yield lambda node=node: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
            yield lambda node=node: setattr(node, "op", ast.UAdd())  # which booleans of NumPy do not have
        elif isinstance(node, ast.comprehension):
            for k in range(len(node.ifs)):
                yield lambda node=node, k=k: node.ifs.__setitem__(k, ast.UnaryOp(ast.Not(), node.ifs[k]))


def walk(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.keyword) and node.arg == "strict":
        return  # of `zip`: it says what the author takes for granted
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from walk(child)


def survives(path: Path, source: str) -> bool:
    """Whether the tests of a module pass with another source, in a process of its own."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = run_tests(path, source)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def run_tests(path: Path, source: str) -> int:
    import pytest

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    sys.dont_write_bytecode = True
    read = importlib.machinery.SourceFileLoader.get_data

    def get_data(self: importlib.machinery.SourceFileLoader, name: str) -> bytes:
        if name.endswith(".pyc") and Path(name).name.startswith(f"{path.stem}."):
            raise OSError("compiled before it was changed")
        return source.encode() if name == str(path) else read(self, name)

    importlib.machinery.SourceFileLoader.get_data = get_data  # type: ignore[method-assign]
    tests = path.parents[2] / "tests" / path.parent.name / f"test_{path.name}"
    unwarned = ["-W", "default"]  # of what is imported before the tests are
    return int(pytest.main(["-x", "-q", "-n0", "-p", "no:cacheprovider", *unwarned, str(tests)]))


if __name__ == "__main__":
    start = time.monotonic()
    main()
    print(f"{time.monotonic() - start:.0f} seconds", file=sys.stderr)
