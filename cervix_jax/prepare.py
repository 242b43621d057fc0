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
    "Extract the photographs' features with Apache Beam first (extra beam), given its options, such as "
    "'--runner=DirectRunner --direct_running_mode=multi_processing --direct_num_workers=0'.",
)


def main() -> dict[str, Any]:
    from cervix_jax import config as options
    from cervix_jax.datasets.dataset import extract_with_beam, load_dataset

    config = options.validate(CONFIG.value)
    if BEAM.value is not None:
        extract_with_beam(config, shlex.split(BEAM.value))
    data = load_dataset(config)
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
