"""Heads: networks from the features of a backbone, or from photographs, to an output: logits, or a box.

The registry names modules instead of importing them, so that `cervix_jax.config` can take its choices, and the options
that each head reads, from here without importing JAX.
"""

import pkgutil
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from flax import linen as nn


class Head(NamedTuple):
    """A head that `config.model.name` can name.

    Attributes:
      path: of its flax module, 'python.module:Class'.
      options: what it reads of `config.model`, as attributes of the same names. It may have two more attributes:
        `num_classes`, and `stem`: whether it reads photographs, for want of a backbone.
      backbone: whether it needs a backbone before it, takes one, or reads photographs only.
      task: the value of `config.task` that it is for.
    """

    path: str
    options: tuple[str, ...]
    backbone: Literal["required", "optional", "unsupported"]
    task: Literal["classify", "localise"] = "classify"

    def load(self) -> "type[nn.Module]":
        """Imports its flax module."""
        return pkgutil.resolve_name(self.path)


# Values of `config.model.name`.
HEADS: dict[str, Head] = {
    "inception_residual": Head(
        "cervix_jax.models.heads.inception_residual:InceptionResidualHead",
        options=("dropout_rate", "drop_path_rate", "batch_norm", "remat", "widths", "blocks"),
        backbone="optional",
    ),
    "naive_transfer": Head(
        "cervix_jax.models.heads.naive_transfer:NaiveTransferHead",
        options=("dropout_rate", "batch_norm"),
        backbone="required",
    ),
    "box_voting": Head(
        "cervix_jax.models.heads.box_voting:BoxVotingHead",
        options=("dropout_rate", "batch_norm"),
        backbone="required",
        task="localise",
    ),
    "vanilla_cnn": Head(
        "cervix_jax.models.heads.vanilla_cnn:VanillaCNN",
        options=("dropout_rate", "batch_norm"),
        backbone="unsupported",
    ),
}
