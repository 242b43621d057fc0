"""How long experiments take: a forecast before they start, and the time left while they run."""

import time
from collections.abc import Sequence
from typing import Any

import ml_collections

from cervix_jax.experiments.report_tables import EXPERIMENTS
from cervix_jax.experiments.variants import VARIANTS
from cervix_jax.progress import log


def forecast(
    config: ml_collections.ConfigDict,
    repetitions: int,
    num_images: int,
    images_per_second: float,
    *,
    cropped: bool = False,
) -> list[dict[str, Any]]:
    """What each experiment would take if none of its runs were finished.

    Args:
      config: of the report's system; its epochs and image size are read.
      repetitions: how many times each variant is trained: folds times seeds.
      num_images: training photographs.
      images_per_second: training speed of the report's system at 320 x 240.
      cropped: whether systems are trained on the cervix, too.

    Returns:
      For each experiment `experiment`, `section`, `title`, `systems`, `runs` and `hours`, ready for JSON.
    """
    height, width = config.dataset.image_size
    seconds_per_epoch = num_images / images_per_second * (height * width) / (320 * 240)
    entries = []
    for name, experiment in EXPERIMENTS.items():
        variants = [VARIANTS[system] for system in experiment.systems]
        variants += [variant for variant in variants if cropped and variant.can_be_cropped]
        epochs = [variant.overrides.get("epochs", config.epochs) for variant in variants]
        passes = sum(v.relative_step_time * v.passes(n) for v, n in zip(variants, epochs, strict=True))
        entries.append(
            {
                "experiment": name,
                "section": experiment.section,
                "title": experiment.title,
                "systems": list(experiment.systems),
                "runs": repetitions * len(variants),
                "hours": round(repetitions * passes * seconds_per_epoch / 3600, 2),
            }
        )
    return entries


def log_forecast(entries: Sequence[dict[str, Any]]) -> None:
    """Prints `forecast` on standard error, two lines per experiment."""
    for entry in entries:
        size = f"{entry['runs']:3} runs {entry['hours']:6.2f} h"
        log(f"{entry['experiment']:15} section {entry['section']:7} {size}  {entry['title']}")
        log(f"{'':15} {', '.join(entry['systems'])}")


class RemainingTime:
    """Time that the unfinished runs will take, extrapolated from those that this process has finished."""

    def __init__(self, total: float):
        """Starts the clock; `total` is the work of all unfinished runs, in any unit."""
        self._total, self._finished, self._start = total, 0.0, time.monotonic()

    def finish(self, work: float) -> None:
        """Counts a run of this much work as finished."""
        self._finished += work

    def __str__(self) -> str:
        """For a log line; empty until a run has finished."""
        if not self._finished:
            return ""
        seconds = (time.monotonic() - self._start) / self._finished * (self._total - self._finished)
        return f", about {max(1, round(seconds / 60))} min left"
