"""Builds the TFDS data set that a config names.

python -m cervix_jax.prepare --config=configs/report.py --config.dataset.manual_dir=DIR
"""

import collections
from typing import Any

from cervix_jax import commands

CONFIG = commands.config_flag()


def main() -> dict[str, Any]:
    from cervix_jax import config
    from cervix_jax.data import pipeline

    builder = pipeline.prepared(config.validate(CONFIG.value).dataset)
    return {
        "splits": {name: split.num_examples for name, split in builder.info.splits.items()},
        "dropped": collections.Counter(builder.info.metadata["dropped"].values()),
        "path": str(builder.data_path),
    }


if __name__ == "__main__":
    commands.run(main)
