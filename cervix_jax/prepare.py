"""Builds the TFDS data set that a config names.

python -m cervix_jax.prepare --config=configs/report.py --config.dataset.manual_dir=DIR
"""

import collections
import sys
from typing import Any

from cervix_jax import commands

CONFIG = commands.config_flag()


def main() -> dict[str, Any]:
    from cervix_jax import config
    from cervix_jax.data import pipeline

    data = pipeline.prepared(config.validate(CONFIG.value))
    metadata = data.builder.info.metadata
    for note in metadata["notes"]:
        print(note, file=sys.stderr)
    return {
        "splits": data.splits,
        "dropped": collections.Counter(metadata["dropped"].values()),
        "rejected": collections.Counter(filter(None, data.selection.reasons)),
        "path": str(data.builder.data_path),
    }


if __name__ == "__main__":
    commands.run(main)
