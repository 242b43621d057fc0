"""Writes the probabilities of every photograph of a folder as a CSV file.

python -m cervix_jax.predict --workdir=runs/quickstart --images=DIR --output=predictions.csv
"""

from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax import commands

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True, allow_overwrite=False)
IMAGES = flags.DEFINE_string("images", None, "Folder of photographs; subfolders are searched too.", required=True)
OUTPUT = flags.DEFINE_string(
    "output", None, "CSV file to write: image_name, then a probability for each type.", required=True
)
FILL = flags.DEFINE_enum("fill", None, ["prior"], "Row of a file that cannot be read: the class shares; else none.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Photographs a step.", lower_bound=1)


def main() -> dict[str, Any]:
    from cervix_jax.inference.folders import predict_folder
    from cervix_jax.inference.predictor import Predictor

    return predict_folder(
        Predictor.restore(Path(WORKDIR.value)),
        Path(IMAGES.value),
        Path(OUTPUT.value),
        fill_prior=FILL.value == "prior",
        batch_size=BATCH_SIZE.value,
    )


if __name__ == "__main__":
    commands.run(main)
