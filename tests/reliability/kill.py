"""Kills programs (SIGKILL) at random moments until they have ended, and compares them with one that was left alone.

python -m tests.reliability.kill [--kills=200] [--programs=train,prepare,crossvalidate] [--seed=0]

Weights, moving average, optimizer, metrics, prepared examples and out-of-fold predictions have to be the same, bit by
bit (but for times); no other files than those of the program left alone may be there, and no process may live on. Each
is killed up to five times, then left to end; this is repeated until there were that many kills. Status 1 if one ends
differently.
"""

import argparse
import collections
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cervix_jax.images import synthetic
from tests.reliability.programs import DifferentError, Programs, compare, read_to_end

PROGRAMS = ("train", "prepare", "crossvalidate")


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
        programs = Programs(folder, folder / "photographs", folder / "data")
        killer = Killer(programs)
        for program in arguments.programs.split(","):
            programs.finish(program, folder / "first")  # which prepares and compiles
            programs.clear("first")
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
    """Kills programs, and knows how each ends when it is left alone."""

    def __init__(self, programs: Programs):
        self._programs = programs
        self._alone: dict[str, tuple[float, dict[str, str]]] = {}

    def kill(self, program: str, kills: int, moment: Callable[[], float]) -> int:
        """Kills a program, then lets it end; returns how often it was killed, fewer if it has ended before.

        Args:
          program: which.
          kills: how often.
          moment: of each, as a share of the time that it takes.

        Raises:
          DifferentError: it does not go on, ends differently, or leaves files or processes behind.
        """
        programs, place, made = self._programs, self._programs.folder / "killed", 0
        if program not in self._alone:
            start = time.monotonic()
            programs.finish(program, programs.folder / "alone")
            self._alone[program] = time.monotonic() - start, programs.end_of(programs.folder / "alone")
            programs.clear("alone")
        seconds, expected = self._alone[program]
        while made < kills:
            process, output = programs.start(program, place)
            process.join(moment() * seconds)
            if process.exitcode is not None:
                break  # it ended first
            process.kill()
            process.join()
            made += 1
            read_to_end(output, f"processes of a killed {program} live on")
        programs.finish(program, place)
        found = programs.end_of(place)
        programs.clear("killed")
        compare(f"{program}, killed {made} times,", found, expected)
        return made


if __name__ == "__main__":
    main()
