"""Builds the TFDS data set that a config names.

python -m cervix_jax.prepare --config=configs/report.py --config.dataset.manual_dir=DIR
"""

import collections
import shlex
import sys
from typing import Any

from absl import flags

from cervix_jax.cli import app

CONFIG = app.config_flag()
BEAM = flags.DEFINE_string(
    "beam",
    None,
    "Measure the photographs with Apache Beam first (extra beam), given these options of its: "
    "'--runner=DirectRunner --direct_running_mode=multi_processing --direct_num_workers=0'.",
)


def main() -> dict[str, Any]:
    from cervix_jax import config as options
    from cervix_jax.datasets import pipeline

    config = options.validate(CONFIG.value)
    if BEAM.value is not None:
        pipeline.measure_with_beam(config, shlex.split(BEAM.value))
    data = pipeline.load_dataset(config)
    metadata = data.builder.info.metadata
    for note in metadata["notes"]:
        print(note, file=sys.stderr)
    return {
        "splits": data.splits,
        "dropped": collections.Counter(metadata["dropped"].values()),
        "rejected": collections.Counter(filter(None, data.assignment.reasons)),
        "path": str(data.builder.data_path),
    }


if __name__ == "__main__":
    app.run(main)
