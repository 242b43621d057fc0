"""Programs in processes of their own, on a few synthetic photographs, and what each leaves when it has ended.

They are forked from a process that has imported everything, since imports are neither worth killing nor waiting for.
"""

import hashlib
import json
import multiprocessing
import os
import runpy
import select
import shutil
import signal
import sys
import tempfile
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from cervix_jax import runs

CLOCK = ("images_per_second", "validation_seconds")
ENDS_WITHIN = 20  # seconds, of processes whose parent was killed
OPTIONS = {
    **{"epochs": 4, "batch_size": 16, "dataset.name": "cervix/initial", "dataset.image_size": "(32,24)"},
    **{"model.backbone.name": "none", "model.widths": "(4,)", "model.blocks": "(1,)", "optimizer.ema_decay": 0.9},
}
FOLDS = {"epochs": 2, "selection.folds": 2, "selection.fold": 0}
IMPORTED = ["cervix_jax.training.loop", "cervix_jax.workflows.cross_validation", "cervix_jax.datasets.dataset"]


class DifferentError(AssertionError):
    """A program does not go on, ends differently than one that was left alone, or leaves something behind."""


class Programs:
    """Starts programs on the same photographs."""

    def __init__(self, folder: Path, manual_dir: Path, data_dir: Path):
        self.folder, self._manual_dir, self._data_dir = folder, manual_dir, data_dir
        os.environ.setdefault("GLIBC_TUNABLES", "")  # or programs would start themselves anew
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(IMPORTED)

    def start(self, program: str, place: Path, *more: str) -> tuple[BaseProcess, Connection]:
        """Starts `prepare` into a folder, or `train` or `crossvalidate` in it; and returns where it prints."""
        prepared = place if program == "prepare" else self._data_dir
        options = OPTIONS | {"dataset.manual_dir": self._manual_dir, "dataset.data_dir": prepared}
        options |= FOLDS if program == "crossvalidate" else {}
        flags = ["--config=configs/report.py", *(f"--config.{name}={value}" for name, value in options.items())]
        return self.start_with(program, *flags, *([] if program == "prepare" else [f"--workdir={place}"]), *more)

    def start_with(self, program: str, *flags: str) -> tuple[BaseProcess, Connection]:
        """Starts any program."""
        output, end = self._context.Pipe(duplex=False)
        process = self._context.Process(target=run_program, args=(program, list(flags), self._temporary, end))
        process.start()
        end.close()
        return process, output

    def finish(self, program: str, place: Path, *more: str) -> None:
        """Has a program end."""
        process, output = self.start(program, place, *more)
        process.join()
        said = read_to_end(output, f"processes of {program} live on")
        if process.exitcode != 0:
            raise DifferentError(f"{program} does not go on:\n{said}")

    def end_of(self, place: Path) -> dict[str, str]:
        """A digest of everything that a program leaves in a folder, by what it is."""
        left = [path for path in sorted(place.rglob("*")) if not path.name.startswith("events.out")]
        end = {"files": repr(sorted({"/".join(path.relative_to(place).parts[:4]) for path in left}))}
        end["temporary files"] = repr(list(self._temporary.iterdir()) if self._temporary.exists() else [])
        for path in left:
            if ".array_record" in path.name and path.is_file():
                end[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        for name in ("oof.csv", "crossvalidation.json"):
            if (place / name).exists():
                end[name] = (place / name).read_text().replace(str(place), "")
        for workdir in runs.member_workdirs(place) if not (place / "cervix").exists() else []:
            rows = [{k: v for k, v in row.items() if k not in CLOCK} for row in runs.read_metrics(workdir)]
            end[f"{workdir.relative_to(place)} metrics"] = json.dumps(rows)
            end[f"{workdir.relative_to(place)} checkpoints"] = checksums(workdir)
        return end

    @property
    def _temporary(self) -> Path:
        return self.folder / "temporary"

    def clear(self, *names: str) -> None:
        """Removes folders, and temporary files."""
        for name in (*names, "temporary"):
            shutil.rmtree(self.folder / name, ignore_errors=True)


def compare(what: str, found: dict[str, str], expected: dict[str, str]) -> None:
    """Raises DifferentError if something ended differently."""
    if found != expected:
        lines = (
            f"\n  {name}: {found.get(name)}\n  instead of {expected.get(name)}"
            for name in sorted({*found, *expected})
            if found.get(name) != expected.get(name)
        )
        raise DifferentError(f"{what} ends with other{''.join(lines)}")


def run_program(program: str, flags: list[str], temporary: Path, output: Connection) -> None:
    """What the process does."""
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    temporary.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    os.chdir(Path(__file__).parents[2])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # multiprocessing's server ignores it
    sys.argv = [program, *flags]
    runpy.run_module(f"cervix_jax.{program}", run_name="__main__", alter_sys=True)


def read_to_end(output: Connection, otherwise: str, seconds: float = ENDS_WITHIN) -> str:
    """What processes have printed, once all that could print have ended.

    Raises:
      DifferentError: some have not, and print nothing for a while.
    """
    parts = []
    while select.select([output], [], [], seconds)[0]:
        part = os.read(output.fileno(), 1 << 16)
        if not part:
            output.close()
            return b"".join(parts).decode(errors="replace")
        parts.append(part)
    raise DifferentError(otherwise)


def checksums(workdir: Path) -> str:
    """Of all that the checkpoints hold, which name every array's content."""
    from cervix_jax.training.checkpoints import Checkpoints

    with Checkpoints.open(workdir) as checkpoints:
        return json.dumps({step: checkpoints.checksums(step) for step in checkpoints.steps}, sort_keys=True)
