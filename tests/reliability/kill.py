"""Kills programs (SIGKILL) at random moments until they have ended, and compares them with one that was left alone.

python -m tests.reliability.kill [--kills=200] [--programs=train,prepare,crossvalidate] [--seed=0]

Weights, moving average, optimizer, metrics, prepared examples and out-of-fold predictions have to be the same, bit by
bit (but for times); no other files than those of the program left alone may be there, and no process may live on. Each
is killed up to five times, then left to end; this is repeated until there were that many kills. Status 1 if one ends
differently. Programs are forked from a process that has imported everything, since imports are not worth killing.
"""

import argparse
import collections
import hashlib
import json
import multiprocessing
import os
import random
import runpy
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from cervix_jax import runs
from cervix_jax.images import synthetic

PROGRAMS = ("train", "prepare", "crossvalidate")
CLOCK = ("images_per_second", "validation_seconds")
ENDS_WITHIN = 20  # seconds, of processes whose parent was killed
OPTIONS = {
    **{"epochs": 4, "batch_size": 16, "dataset.name": "cervix/initial", "dataset.image_size": "(32,24)"},
    **{"model.backbone.name": "none", "model.widths": "(4,)", "model.blocks": "(1,)", "optimizer.ema_decay": 0.9},
}
FOLDS = {"epochs": 2, "selection.folds": 2, "selection.fold": 0}
IMPORTED = ["cervix_jax.training.loop", "cervix_jax.workflows.cross_validation", "cervix_jax.datasets.dataset"]


class DifferentError(AssertionError):
    """A program that was killed does not go on, ends differently, or leaves something behind."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw, failed, ended = random.Random(arguments.seed), 0, 0
    kills: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
        synthetic.write_folder(folder / "photographs", seed=3, counts={"train": 60, "additional": 0, "test": 7})
        killer = Killer(folder, folder / "photographs")
        while kills.total() < arguments.kills:
            for program in arguments.programs.split(","):
                wanted = min(5, arguments.kills - kills.total())
                try:
                    kills[program] += killer.kill(program, wanted, lambda: draw.uniform(0.02, 0.8))
                except DifferentError as error:
                    failed += 1
                    print(error, flush=True)
                ended += 1
            print(f"{kills.total()} kills {dict(kills)}, {ended} ended, {failed} differently", flush=True)
    sys.exit(min(failed, 1))


class Killer:
    """Starts programs on the same photographs, and knows how each ends when it is left alone."""

    def __init__(self, folder: Path, manual_dir: Path):
        self._folder, self._manual_dir = folder, manual_dir
        self._alone: dict[str, tuple[float, Mapping[str, str]]] = {}
        os.environ.setdefault("GLIBC_TUNABLES", "")  # or programs would start themselves anew
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(IMPORTED)

    def kill(self, program: str, kills: int, moment: Callable[[], float]) -> int:
        """Kills a program, then lets it end; returns how often it was killed, fewer if it has ended before.

        Args:
          program: which.
          kills: how often.
          moment: of each, as a share of the time that it takes.

        Raises:
          DifferentError: see the class.
        """
        if program not in self._alone:
            self._finish(program, self._folder / "first")  # which prepares and compiles
            start = time.monotonic()
            self._finish(program, self._folder / "alone")
            seconds = time.monotonic() - start
            self._alone[program] = seconds, self._end_of(program, self._folder / "alone")
            self._clear("first", "alone")
        seconds, expected = self._alone[program]
        place, made = self._folder / "killed", 0
        while made < kills:
            process, output = self._start(program, place)
            process.join(moment() * seconds)
            if process.exitcode is not None:
                break  # it ended first
            process.kill()
            process.join()
            made += 1
            read_to_end(output, f"processes of a killed {program} live on")
        self._finish(program, place)
        found = self._end_of(program, place)
        self._clear("killed")
        if found != expected:
            lines = (
                f"\n  {name}: {found.get(name)}\n  instead of {expected.get(name)}"
                for name in sorted({*found, *expected})
                if found.get(name) != expected.get(name)
            )
            raise DifferentError(f"{program}, killed {made} times, ends with other{''.join(lines)}")
        return made

    def _start(self, program: str, place: Path) -> tuple[multiprocessing.process.BaseProcess, Connection]:
        prepared = place if program == "prepare" else self._folder / "data"
        options = OPTIONS | {"dataset.manual_dir": self._manual_dir, "dataset.data_dir": prepared}
        options |= FOLDS if program == "crossvalidate" else {}
        flags = ["--config=configs/report.py", *(f"--config.{name}={value}" for name, value in options.items())]
        output, end = self._context.Pipe(duplex=False)
        arguments = (program, [*flags, *([] if program == "prepare" else [f"--workdir={place}"])], self._temporary, end)
        process = self._context.Process(target=run_program, args=arguments)
        process.start()
        end.close()
        return process, output

    def _finish(self, program: str, place: Path) -> None:
        process, output = self._start(program, place)
        process.join()
        said = read_to_end(output, f"processes of {program} live on")
        if process.exitcode != 0:
            raise DifferentError(f"{program} does not go on:\n{said}")

    def _end_of(self, program: str, place: Path) -> dict[str, str]:
        """A digest of everything that a program leaves, by what it is."""
        left = [path for path in sorted(place.rglob("*")) if not path.name.startswith("events.out")]
        end = {"files": repr(sorted({"/".join(path.relative_to(place).parts[:4]) for path in left}))}
        end["temporary files"] = repr(list(self._temporary.iterdir()) if self._temporary.exists() else [])
        if program == "prepare":
            examples = [path for path in left if ".array_record" in path.name]
            return end | {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in examples}
        for name in ("oof.csv", "crossvalidation.json"):
            if (place / name).exists():
                end[name] = (place / name).read_text().replace(str(place), "")
        for workdir in runs.member_workdirs(place):
            rows = [{k: v for k, v in row.items() if k not in CLOCK} for row in runs.read_metrics(workdir)]
            end[f"{workdir.relative_to(place)} metrics"] = json.dumps(rows)
            end[f"{workdir.relative_to(place)} checkpoints"] = checksums(workdir)
        return end

    @property
    def _temporary(self) -> Path:
        return self._folder / "temporary"

    def _clear(self, *names: str) -> None:
        for name in (*names, "temporary"):
            shutil.rmtree(self._folder / name, ignore_errors=True)


def run_program(program: str, flags: list[str], temporary: Path, output: Connection) -> None:
    """What the process does that is killed."""
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    temporary.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    os.chdir(Path(__file__).parents[2])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # multiprocessing's server ignores it
    sys.argv = [program, *flags]
    runpy.run_module(f"cervix_jax.{program}", run_name="__main__", alter_sys=True)


def read_to_end(output: Connection, otherwise: str) -> str:
    """What processes have printed, once all that could print have ended.

    Raises:
      DifferentError: some have not, after a while.
    """
    parts = []
    while select.select([output], [], [], ENDS_WITHIN)[0]:
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


if __name__ == "__main__":
    main()
