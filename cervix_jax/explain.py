"""Explains predictions: a figure for each photograph, and contact sheets by true and predicted type.

python -m cervix_jax.explain --workdir=runs/quickstart --images=DIR --output=runs/quickstart/explained
"""

from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax.cli import app, output_flags, run_flags

IMAGES = flags.DEFINE_string(
    "images", None, "A photograph, or a folder; folders named Type_1 to Type_3 give the true type.", required=True
)
OUTPUT = flags.DEFINE_string("output", None, "Folder of the figures.", required=True)
METHODS = flags.DEFINE_list(
    "methods", "saliency,smooth_grad,integrated_gradients,grad_cam,occlusion", "Explanation methods."
)
TARGET = flags.DEFINE_enum(
    "target", "type", ["type", "margin"], "Explain the type's logit, or its log odds against the other types."
)
TYPE = flags.DEFINE_string("type", None, "The type to explain, such as Type_1; else each photograph's likeliest.")
LAYER = flags.DEFINE_string("layer", None, "Layer that Grad-CAM reads; else the last feature map.")
FORMAT = flags.DEFINE_enum("format", "png", ["png", "pdf", "html"], "Files, or one page that holds all figures.")
run_flags.define_site_flag()


def main() -> dict[str, Any]:
    from cervix_jax.errors import UserError
    from cervix_jax.plots.explanation_files import explain_images

    if run_flags.TTA.value:
        raise UserError("--tta does not apply to explanations, which are of each photograph as it is")
    return explain_images(
        run_flags.restore(calibrated=True),  # figures show the probabilities that `predict` writes
        Path(IMAGES.value),
        Path(OUTPUT.value),
        methods=METHODS.value,
        target=TARGET.value,
        layer=LAYER.value,
        type_name=TYPE.value,
        form=FORMAT.value,
        batch_size=run_flags.BATCH_SIZE.value,
        overwrite=output_flags.OVERWRITE.value,
    )


if __name__ == "__main__":
    app.run(main)
