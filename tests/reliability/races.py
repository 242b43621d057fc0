"""Starts programs at once that share files: each ends as if it were alone, or is refused in one line.

python -m tests.reliability.races [--rounds=3]

'WRONG' is a traceback, or results that are not those of programs that ran one after another. Status 1 if there are any.
"""

import argparse
import collections
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from cervix_jax.images import synthetic
from tests.reliability.programs import DifferentError, Programs, compare, read_to_end

SILENCE = 120  # seconds without a word, on a busy machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
        synthetic.write_folder(folder / "photographs", seed=3, counts={"train": 60, "additional": 0, "test": 7})
        races = Races(Programs(folder, folder / "photographs", folder / "data"))
        wrong = 0
        print("| race | rounds | all done | some refused | WRONG |\n|---|---|---|---|---|")
        for race in (races.prepares, races.trainers, races.readers, races.writers, races.folds):
            counts = collections.Counter(tried(race) for _ in range(arguments.rounds))
            columns = (arguments.rounds, counts["done"], counts["refused"], counts["WRONG"])
            print(f"| {(race.__doc__ or '').rstrip('.')} | {' | '.join(map(str, columns))} |", flush=True)
            wrong += counts["WRONG"]
    sys.exit(min(wrong, 1))


def tried(race: Callable[[], str]) -> str:
    try:
        return race()
    except DifferentError as error:
        print(error, file=sys.stderr, flush=True)
        return "WRONG"


class Races:
    def __init__(self, programs: Programs):
        self._programs, self._folder = programs, programs.folder
        self._alone = {}
        for program in ("prepare", "train", "crossvalidate"):
            place = self._folder / f"alone_{program}"
            programs.finish(program, place)
            self._alone[program] = programs.end_of(place)

    def prepares(self) -> str:
        """Two `prepare` of one data set."""
        place = self._place()
        outcome = self._end([self._programs.start("prepare", place) for _ in range(2)])
        compare("prepare", self._programs.end_of(place), self._alone["prepare"])
        return outcome

    def trainers(self) -> str:
        """Two `train` in one work directory."""
        place = self._place()
        outcome = self._end([self._programs.start("train", place) for _ in range(2)])
        compare("train", self._programs.end_of(place), self._alone["train"])
        return outcome

    def readers(self) -> str:
        """`predict`, `evaluate`, `check` beside `train`."""
        place, images = self._place(), f"--images={self._folder / 'photographs/test'}"
        self._programs.finish("train", place, "--config.epochs=1")
        trainer = self._programs.start("train", place)
        commands = [("predict", images, f"--output={self._folder / 'p.csv'}"), ("evaluate",), ("check",)]
        readers = [self._programs.start_with(name, f"--workdir={place}", *more) for name, *more in commands]
        outcome = self._end([trainer, *readers])
        compare("train", self._programs.end_of(place), self._alone["train"])
        return outcome

    def writers(self) -> str:
        """Two `calibrate`, then two `predict` with one output."""
        place, output = self._folder / "alone_train", self._folder / "written.csv"
        images = f"--images={self._folder / 'photographs/test'}"
        flags = (f"--workdir={place}", images, f"--output={output}")
        outcomes = [self._end([self._programs.start_with("calibrate", f"--workdir={place}") for _ in range(2)])]
        calibrations = [path.read_bytes() for path in place.glob("calibration-*")]
        self._end([self._programs.start_with("predict", *flags)])
        alone = output.read_bytes()
        outcomes.append(self._end([self._programs.start_with("predict", *flags) for _ in range(2)]))
        self._end([self._programs.start_with("calibrate", f"--workdir={place}")])
        if output.read_bytes() != alone or [p.read_bytes() for p in place.glob("calibration-*")] != calibrations:
            raise DifferentError("a table or a calibration differs from one that was written alone")
        if left := list(self._folder.rglob("*.partial")):
            raise DifferentError(f"left behind: {left}")
        return max(outcomes)

    def folds(self) -> str:
        """Two `crossvalidate` of different folds."""
        place = self._place()
        outcome = self._end([self._programs.start("crossvalidate", place, f"--folds={fold}") for fold in (0, 1)])
        self._programs.finish("crossvalidate", place)
        compare("crossvalidate", self._programs.end_of(place), self._alone["crossvalidate"])
        return outcome

    def _place(self) -> Path:
        self._programs.clear("raced")
        return self._folder / "raced"

    def _end(self, started: Sequence) -> str:
        """'done' or 'refused', once all have ended.

        Raises:
          DifferentError: one ended with a traceback.
        """
        outcomes = []
        for process, output in started:
            said = read_to_end(output, "a program hangs", SILENCE)
            process.join()
            last = said.strip().splitlines()[-1:]
            if process.exitcode not in (0, 2) or "Traceback" in said:
                raise DifferentError(f"status {process.exitcode}:\n{said}")
            outcomes.append("refused" if process.exitcode else "done")
            if process.exitcode:
                print(*last, file=sys.stderr, flush=True)
        return max(outcomes)


if __name__ == "__main__":
    main()
