"""Which values the options of `config.py` may have."""

from collections.abc import Callable, Mapping
from typing import Any

from cervix_jax.labels import CLASS_NAMES
from cervix_jax.models.backbones import BACKBONES
from cervix_jax.models.heads import HEADS

Flat = Mapping[str, Any]  # dotted names of options to values
Predicate = Callable[[Any, Flat], bool]  # of an option's value and of all options


def _one_of(*choices: str) -> tuple[Predicate, str]:
    return lambda value, _: value in choices, f"one of {', '.join(choices)}"


def _at_least(low: int) -> tuple[Predicate, str]:
    return lambda value, _: value >= low, f"at least {low}"


_NEED_BACKBONE = [name for name, head in HEADS.items() if head.backbone == "required"]
_RATE: tuple[Predicate, str] = (lambda value, _: 0 <= value < 1, "at least 0 and below 1")

# (name, predicate, the same in words); '{0[NAME]}' in the words stands for the value of an option.
CONSTRAINTS: tuple[tuple[str, Predicate, str], ...] = (
    ("epochs", *_at_least(1)),
    ("batch_size", *_at_least(1)),
    (
        "accumulate",
        lambda value, flat: value >= 1 and flat["batch_size"] % value == 0,
        "a divisor of config.batch_size, {0[batch_size]}",
    ),
    ("eval_batch_size", *_at_least(1)),
    ("parallel", *_one_of("jit", "pmap")),
    ("dataset.image_size", lambda value, _: len(value) == 2 and min(value) >= 1, "(height, width) in pixels"),
    ("dataset.resize", *_one_of("stretch", "fit")),
    ("task", *_one_of("classify", "localise")),
    (
        "dataset.crop",
        lambda value, _: 0 < value <= 1 if isinstance(value, int | float) else isinstance(value, str) and value != "",
        "above 0 and at most 1, boxes, or the work directory of a localiser",
    ),
    (
        "dataset.crop",
        lambda value, flat: flat["task"] != "localise" or value == 1,
        "1.0 with config.task=localise, which looks for the box",
    ),
    ("dataset.crop_margin", lambda value, _: 0 <= value <= 1, "0 to 1"),
    ("dataset.num_threads", *_at_least(1)),
    ("selection.folds", *_at_least(2)),
    (
        "selection.fold",
        lambda value, flat: 0 <= value < flat["selection.folds"],
        "at least 0 and below config.selection.folds, {0[selection.folds]}",
    ),
    ("selection.split", *_one_of("grouped", "random")),
    ("selection.labels", *_one_of("corrected", "folder")),
    ("selection.additional", *_one_of("cleaned", "none", "all")),
    ("selection.keep_fraction", lambda value, _: 0 <= value <= 1, "0 to 1"),
    ("selection.fitted_on", *_one_of("training", "initial")),
    ("selection.one_vs_rest", *_one_of("none", *CLASS_NAMES)),
    ("augmentation.zoom", *_RATE),
    ("augmentation.color_jitter", *_RATE),
    ("augmentation.cutout", *_RATE),
    ("augmentation.mixup", lambda value, _: value >= 0, "at least 0"),
    (
        "augmentation.mixup",
        lambda value, flat: value == 0 or (flat["task"] == "classify" and flat["parallel"] == "jit"),
        "0 with config.task=localise or config.parallel=pmap",
    ),
    ("model.name", *_one_of(*HEADS)),
    (
        "model.name",
        lambda value, flat: value not in HEADS or HEADS[value].task == flat["task"],
        "a head for config.task={0[task]}",
    ),
    ("model.dtype", *_one_of("float32", "bfloat16")),
    ("model.dropout_rate", *_RATE),
    ("model.remat", lambda value, flat: not value or flat["parallel"] != "pmap", "False with config.parallel=pmap"),
    ("model.widths", lambda value, _: all(width >= 4 and width % 4 == 0 for width in value), "multiples of 4"),
    (
        "model.blocks",
        lambda value, flat: len(value) == len(flat["model.widths"]),
        "as many numbers as config.model.widths",
    ),
    ("model.backbone.name", *_one_of(*BACKBONES, "none")),
    (
        "model.backbone.name",
        lambda value, flat: value != "none" or flat["model.name"] not in _NEED_BACKBONE,
        "a network, since config.model.name is {0[model.name]}",
    ),
    ("optimizer.reference_batch", *_at_least(0)),
    ("optimizer.warmup_epochs", *_at_least(0)),
    ("optimizer.schedule", *_one_of("inverse", "exponential", "cosine")),
    ("optimizer.ema_decay", *_RATE),
    ("optimizer.weight_decay", lambda value, _: value >= 0, "at least 0"),
    ("optimizer.clip_norm", lambda value, _: value >= 0, "at least 0"),
    ("optimizer.backbone_rate", lambda value, _: 0 < value <= 1, "above 0 and at most 1"),
    ("loss.label_smoothing", *_RATE),
    ("loss.ambiguity", lambda value, _: 0 <= value <= 0.5, "0 to 0.5"),
    (
        "loss.ambiguity",
        lambda value, flat: value == 0 or flat["selection.one_vs_rest"] == "none",
        "0 with config.selection.one_vs_rest",
    ),
    (
        "loss.class_weights",
        lambda value, flat: len(value) in (0, 2 if flat["selection.one_vs_rest"] in CLASS_NAMES else 3),
        "3 numbers (2 with config.selection.one_vs_rest), or no numbers",
    ),
    ("loss.class_weights", lambda value, _: min(value, default=0) >= 0, "without negative numbers"),
)
