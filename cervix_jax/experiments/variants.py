"""Every variant that a table of the report compares, as overrides of the defaults in `cervix_jax/config.py`.

The defaults are the report's best single system. Its sections 5 to 9 train on the initial photographs alone, later ones
also on the cleaned additional ones; so do the variants here. All of them use one data set, so that they share their
folds, can be compared photograph by photograph and averaged in ensembles. Each can be trained alone:

    python -m cervix_jax.train --config=configs/system.py:crop_70 --workdir=runs/crop_70
"""

import dataclasses
from typing import Any, Literal

import ml_collections

from cervix_jax import config as options

Overrides = dict[str, Any]  # dotted names of options to values

COMMON: Overrides = {"dataset.name": "cervix/cleaned", "batch_size": 16}

# `reproduce --quick`: synthetic photographs, a small head, one epoch.
QUICK: Overrides = {
    "dataset.name": "cervix/synthetic",
    "dataset.image_size": (32, 24),
    "model.widths": (8,),
    "model.blocks": (1,),
    "batch_size": 64,
    "epochs": 1,
}


@dataclasses.dataclass(frozen=True)
class Variant:
    """A model that is trained, or a baseline that is fitted.

    Attributes:
      overrides: options that differ from the defaults and `COMMON`.
      kind: 'network'; 'logistic_regression' on its backbone's features, averaged over the map; or a predictor that
        ignores the photograph: 'uniform', or 'shares', the class priors of the training photographs.
      quick_overrides: with `--quick`, where the variant would otherwise be large.
      reported_epoch: whose metrics the table gives: 'best' by validation loss, as in the report, or 'last'.
      relative_step_time: time of a training step divided by that of the report's system: measured on two CPU cores at
        128 x 96 (naive transfer from a whole network: by its FLOPs). For a regression, of its single pass.
    """

    overrides: Overrides = dataclasses.field(default_factory=dict)
    kind: Literal["network", "logistic_regression", "uniform", "shares"] = "network"
    quick_overrides: Overrides = dataclasses.field(default_factory=dict)
    reported_epoch: Literal["best", "last"] = "best"
    relative_step_time: float = 1.0

    @property
    def backbone(self) -> str:
        """Name of the pretrained backbone; 'none' if it needs none."""
        if self.kind in ("uniform", "shares"):
            return "none"
        return self.overrides.get("model.backbone.name", "resnet50")

    def passes(self, epochs: int) -> int:
        """Passes over the training photographs, if networks train for so many epochs."""
        return epochs if self.kind == "network" else 1

    @property
    def can_be_cropped(self) -> bool:
        """Whether it is a network that sees whole photographs unless it is told otherwise."""
        return self.kind == "network" and "dataset.crop" not in self.overrides


INITIAL: Overrides = {"selection.additional": "none"}
TRAINED: Overrides = {"model.backbone.trainable": "all"}
NO_AUGMENTATION: Overrides = {
    "augmentation.horizontal_flip": False,
    "augmentation.vertical_flip": False,
    "augmentation.translation": 0.0,
    "augmentation.shear": 0.0,
    "augmentation.zoom": 0.0,
}
UNREGULARISED: Overrides = NO_AUGMENTATION | {"model.dropout_rate": 0.0, "optimizer.l2": 0.0}

# Features of naive transfer: the last map, or conv3's, which `logistic_conv3` also reads.
_NAIVE: Overrides = INITIAL | {"model.name": "naive_transfer"}
_LAST: Overrides = {"model.backbone.cut": "conv5_block3_out"}
_CONV4: Overrides = {"model.backbone.cut": "conv4_block6_out"}
_CONV3: Overrides = {"model.backbone.cut": "conv3_block4_out"}
_INCEPTION: Overrides = {"model.backbone.name": "inception_v3"}
_QUICK_CUT: Overrides = {"model.backbone.cut": "conv2_block1_out"}
_QUICK_INCEPTION: Overrides = {"model.backbone.cut": "activation_3"}

KEEP_FRACTIONS = (0.25, 0.5, 0.75, 1.0)  # of the additional photographs, those closest in colour
SHARPNESSES = (0.0, 1.0, 4.0)  # least sharpness, as a multiple of that of the least sharp initial photograph


def cleaning_variant(keep_fraction: float, sharpness: float) -> str:
    """Name of the variant with these cleaning tolerances (report section 15)."""
    if (keep_fraction, sharpness) == (0.5, 1.0):
        return "report"
    return f"kept_{100 * keep_fraction:.0f}_sharp_{sharpness:g}"


VARIANTS: dict[str, Variant] = {
    "report": Variant(),
    "initial": Variant(INITIAL),
    # Section 6.
    "uniform": Variant(INITIAL, "uniform", relative_step_time=0.0),
    "shares": Variant(INITIAL, "shares", relative_step_time=0.0),
    "vanilla_cnn": Variant(
        INITIAL | NO_AUGMENTATION | {"model.name": "vanilla_cnn", "model.backbone.name": "none"},
        quick_overrides={"dataset.image_size": (16, 12)},
        relative_step_time=2.4,
    ),
    "naive_resnet50": Variant(_NAIVE | _LAST, quick_overrides=_QUICK_CUT, relative_step_time=3.4),
    "naive_resnet50_conv4": Variant(_NAIVE | _CONV4, quick_overrides=_QUICK_CUT, relative_step_time=3.0),
    "naive_resnet50_conv3": Variant(_NAIVE | _CONV3, quick_overrides=_QUICK_CUT, relative_step_time=2.5),
    "naive_inception_v3": Variant(
        _NAIVE | _INCEPTION | {"model.backbone.cut": "mixed10"},
        quick_overrides=_QUICK_INCEPTION,
        relative_step_time=2.6,
    ),
    "naive_inception_v3_mixed8": Variant(
        _NAIVE | _INCEPTION | {"model.backbone.cut": "mixed8"},
        quick_overrides=_QUICK_INCEPTION,
        relative_step_time=2.4,
    ),
    "overfitted": Variant(
        _NAIVE | _CONV3 | UNREGULARISED | {"epochs": 30, "optimizer.ema_decay": 0.0},
        quick_overrides=_QUICK_CUT | {"epochs": 1},
        reported_epoch="last",
        relative_step_time=2.5,
    ),
    "logistic_conv1": Variant(INITIAL, "logistic_regression", relative_step_time=0.1),
    "logistic_conv3": Variant(
        INITIAL | _CONV3, "logistic_regression", quick_overrides=_QUICK_CUT, relative_step_time=1.2
    ),
    # Section 8.
    **{f"crop_{percent}": Variant(INITIAL | {"dataset.crop": percent / 100}) for percent in (85, 70, 55, 40)},
    # Section 9.
    **{
        "weights_" + "_".join(map(str, weights)): Variant(INITIAL | {"loss.class_weights": weights})
        for weights in ((5.88, 1.89, 3.33), (4.88, 1.89, 3.33), (4.88, 1.89, 2.33), (2.5, 1.0, 1.5))
    },
    # Sections 10 and 15.
    **{
        cleaning_variant(fraction, sharpness): Variant(
            {"selection.keep_fraction": fraction, "selection.sharpness": sharpness}
        )
        for fraction in KEEP_FRACTIONS
        for sharpness in SHARPNESSES
        if cleaning_variant(fraction, sharpness) != "report"
    },
    # Section 11.
    "no_backbone": Variant({"model.backbone.name": "none"}, relative_step_time=3.6),
    "inception_v3": Variant(_INCEPTION | {"model.backbone.cut": 3}),
    "trained_3": Variant(TRAINED, relative_step_time=1.3),
    **{
        f"frozen_{n}": Variant({"model.backbone.cut": n}, relative_step_time=time)
        for n, time in ((6, 0.8), (12, 0.8), (20, 0.7))
    },
    **{
        f"trained_{n}": Variant(TRAINED | {"model.backbone.cut": n}, relative_step_time=time)
        for n, time in ((6, 1.5), (12, 1.4), (20, 1.7))
    },
    # Sections 5.2 and 7.
    "without_dropout": Variant(INITIAL | {"model.dropout_rate": 0.0}),
    "without_batch_norm": Variant(INITIAL | {"model.batch_norm": False}),
    "without_l2": Variant(INITIAL | {"optimizer.l2": 0.0}),
    "without_augmentation": Variant(INITIAL | NO_AUGMENTATION),
    # Section 12, which does not give the weights of its three models.
    **{
        f"specialist_{i + 1}": Variant({"loss.class_weights": tuple(2.0 if j == i else 1.0 for j in range(3))})
        for i in range(3)
    },
    # Section 15.
    **{f"one_vs_rest_{i}": Variant({"selection.one_vs_rest": f"Type_{i}"}) for i in (1, 2, 3)},
}


def get_config(name: str) -> ml_collections.ConfigDict:
    """The config with which a variant is trained alone; `configs/*.py` are these.

    Raises:
      ConfigError: there is no such variant; the message names the nearest.
    """
    if name not in VARIANTS:
        raise options.ConfigError(f"there is no system {name!r}; the nearest is {options.nearest(name, VARIANTS)}")
    return options.unflatten(COMMON | VARIANTS[name].overrides)
