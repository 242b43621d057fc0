"""Which values the options of `config.py` may have."""

from collections.abc import Callable, Mapping
from typing import Any

from cervix_jax.labels import CLASS_NAMES
from cervix_jax.models.backbones import BACKBONES
from cervix_jax.models.backbones.spec import Architecture
from cervix_jax.models.heads import HEADS

Flat = Mapping[str, Any]  # dotted names of options to values
Predicate = Callable[[Any, Flat], bool]  # of an option's value and of all options


def _one_of(*choices: str) -> tuple[Predicate, str]:
    return lambda value, _: value in choices, f"one of {', '.join(choices)}"


def _at_least(low: int) -> tuple[Predicate, str]:
    return lambda value, _: value >= low, f"at least {low}"


def _within(low: int | float, high: int | float) -> tuple[Predicate, str]:
    return lambda value, _: low <= value <= high, f"{low} to {high}"


_NEED_BACKBONE = [name for name, head in HEADS.items() if head.backbone == "required"]
_RATE: tuple[Predicate, str] = (lambda value, _: 0 <= value < 1, "at least 0 and below 1")
_MIXING: tuple[Predicate, str] = (
    lambda value, flat: value == 0 or (flat["task"] == "classify" and flat["parallel"] == "jit"),
    "0 with config.task=localise or config.parallel=pmap",
)


def _is_cut(value: Any) -> bool:
    return isinstance(value, str) or type(value) is int


def _is_stages(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, tuple) and all(isinstance(name, str) for name in value))


def _backbone(flat: Flat) -> Architecture | None:
    """The backbone; None if there is none, or its options are of other types than it can be asked for."""
    is_askable = _is_cut(flat["model.backbone.cut"]) and _is_stages(flat["model.backbone.trainable"])
    return BACKBONES.get(flat["model.backbone.name"]) if is_askable else None


def _least_size(flat: Flat) -> tuple[int, int]:
    """Height and width that the backbone needs at least; raises EndPointError if it cannot be cut as asked for."""
    backbone = _backbone(flat)
    return (1, 1) if backbone is None else backbone.least_size(flat["model.backbone.cut"])


def _stages_are_found(flat: Flat) -> bool:
    """True; raises EndPointError if the backbone has no such stages, or not up to the cut."""
    if (backbone := _backbone(flat)) is not None:
        backbone.trained_stages(flat["model.backbone.trainable"], flat["model.backbone.cut"])
    return True


# (name, predicate, the same in words); '{0[NAME]}' in the words stands for the value of an option.
CONSTRAINTS: tuple[tuple[str, Predicate, str | Callable[[Flat], str]], ...] = (
    ("epochs", *_at_least(1)),
    ("patience", *_at_least(0)),
    ("batch_size", *_at_least(1)),
    (
        "accumulate",
        lambda value, flat: value >= 1 and flat["batch_size"] % value == 0,
        "a divisor of config.batch_size, {0[batch_size]}",
    ),
    (
        "batch_norm_groups",
        lambda value, flat: value >= 1 and flat["batch_size"] // max(flat["accumulate"], 1) % value == 0,
        "a divisor of the photographs in a microbatch, config.batch_size={0[batch_size]} / "
        "config.accumulate={0[accumulate]}",
    ),
    ("eval_batch_size", *_at_least(1)),
    ("seed", *_within(0, 2**31 - 1)),
    ("parallel", *_one_of("jit", "pmap")),
    (
        "dataset.image_size",
        lambda value, _: len(value) == 2 and min(value) >= 1 and all(isinstance(side, int) for side in value),
        "(height, width) in pixels",
    ),
    (
        "dataset.image_size",
        lambda value, flat: len(value) != 2 or all(a >= b for a, b in zip(value, _least_size(flat), strict=True)),
        lambda flat: "at least {} x {} for config.model.backbone.name={} cut at {}".format(
            *_least_size(flat), flat["model.backbone.name"], flat["model.backbone.cut"]
        ),
    ),
    (
        "dataset.case_pattern",
        lambda value, _: value == "" or "(?P<case>" in value,
        "a pattern with (?P<case>...), or ''",
    ),
    ("dataset.readers", lambda value, flat: not value or flat["task"] == "classify", "'' with config.task=localise"),
    ("dataset.resize", *_one_of("stretch", "fit")),
    ("task", *_one_of("classify", "localise")),
    (
        "dataset.crop",
        lambda value, _: (
            0.05 <= value <= 1 if isinstance(value, int | float) else isinstance(value, str) and value != ""
        ),
        "0.05 to 1, boxes, or the work directory of a localiser",
    ),
    (
        "dataset.crop",
        lambda value, flat: flat["task"] != "localise" or value == 1,
        "1.0 with config.task=localise, which looks for the box",
    ),
    (
        "dataset.crop",
        lambda value, flat: value != "init" or flat["init.workdir"] is not None,
        "given with config.init.workdir, whose localiser 'init' means",
    ),
    ("dataset.crop_margin", *_within(0, 1)),
    ("dataset.num_threads", *_within(1, 256)),
    ("dataset.cache_bytes", *_at_least(0)),
    ("selection.folds", *_at_least(2)),
    (
        "selection.fold",
        lambda value, flat: 0 <= value < flat["selection.folds"],
        "at least 0 and below config.selection.folds, {0[selection.folds]}",
    ),
    ("selection.split", *_one_of("grouped", "random")),
    ("selection.labels", *_one_of("corrected", "folder")),
    ("selection.additional", *_one_of("cleaned", "none", "all")),
    ("selection.keep_fraction", *_within(0, 1)),
    ("selection.sharpness", *_at_least(0)),
    ("selection.fitted_on", *_one_of("training", "initial")),
    ("selection.one_vs_rest", *_one_of("none", *CLASS_NAMES)),
    ("augmentation.translation", *_within(0, 1)),
    ("augmentation.shear", *_within(0, 1)),
    ("augmentation.rotation", *_within(0, 180)),
    ("augmentation.zoom", *_RATE),
    ("augmentation.color_jitter", *_RATE),
    ("augmentation.hue", *_within(0, 180)),
    ("augmentation.saturation", *_within(0, 1)),
    ("augmentation.blur", *_within(0, 32)),
    ("augmentation.cutout", *_RATE),
    ("augmentation.mixup", *_at_least(0)),
    ("augmentation.mixup", *_MIXING),
    ("augmentation.cutmix", *_at_least(0)),
    ("augmentation.cutmix", *_MIXING),
    (
        "augmentation.cutmix",
        lambda value, flat: value == 0 or flat["augmentation.mixup"] == 0,
        "0 with config.augmentation.mixup",
    ),
    ("model.name", *_one_of(*HEADS)),
    (
        "model.name",
        lambda value, flat: value not in HEADS or HEADS[value].task == flat["task"],
        "a head for config.task={0[task]}",
    ),
    ("model.dtype", *_one_of("float32", "bfloat16")),
    ("model.dropout_rate", *_RATE),
    ("model.drop_path_rate", *_RATE),
    ("model.remat", lambda value, flat: not value or flat["parallel"] != "pmap", "False with config.parallel=pmap"),
    ("model.widths", lambda value, _: bool(value) and all(w >= 4 and w % 4 == 0 for w in value), "multiples of 4"),
    ("model.blocks", lambda value, _: min(value, default=0) >= 0, "without negative numbers"),
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
    ("model.backbone.cut", lambda value, _: _is_cut(value), "the name or the number of a layer"),
    (
        "model.backbone.trainable",
        lambda value, flat: _is_stages(value) and _stages_are_found(flat),
        "'none', 'all' or names of stages",
    ),
    ("optimizer.learning_rate", lambda value, _: value > 0, "above 0"),
    ("optimizer.decay", *_at_least(0)),
    (
        "optimizer.decay",
        lambda value, flat: value < 1 or flat["optimizer.schedule"] != "exponential",
        "below 1 with config.optimizer.schedule=exponential",
    ),
    ("optimizer.l2", *_at_least(0)),
    ("optimizer.reference_batch", *_at_least(0)),
    ("optimizer.warmup_epochs", *_at_least(0)),
    ("optimizer.schedule", *_one_of("inverse", "exponential", "cosine")),
    ("optimizer.ema_decay", *_RATE),
    ("optimizer.weight_decay", *_at_least(0)),
    ("optimizer.clip_norm", *_at_least(0)),
    ("optimizer.backbone_rate", lambda value, _: 0 < value <= 1, "above 0 and at most 1"),
    ("optimizer.unfreeze_epochs", *_at_least(0)),
    ("loss.label_smoothing", *_RATE),
    ("loss.ambiguity", *_within(0, 0.5)),
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
    ("loss.class_weights", lambda value, _: not value or max(value) > 0, "with a number above 0"),
)
