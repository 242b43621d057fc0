"""Every option of the software: its name, default and meaning; `configs/*.py` are overrides of these defaults.

A run is described by one `ml_collections.ConfigDict`. It is locked: an unknown key, in a file or on the command line,
is an error that names the nearest known one. Defaults are the report's best system (sections 5 to 11); where the report
gives no value the sentence says 'not in report'.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import ml_collections
from ml_collections import config_dict

from cervix_jax.errors import UserError


class AnyType(NamedTuple):
    """A default whose option takes values of several types."""

    value: Any


# name -> (default, meaning). A type as default means: no value unless one is given.
OPTIONS: dict[str, tuple[Any, str]] = {
    "seed": (0, "Seeds initial weights, shuffling, augmentation and dropout; data sets are not affected."),
    "epochs": (30, "Passes over the training images; a finished run may be continued with more. Not in report."),
    "batch_size": (32, "Training images a step, over all devices. Not in report."),
    "accumulate": (
        1,
        "Parts that a batch is computed in, one after another, their gradients averaged: less memory. Batch norm sees "
        "a part at a time.",
    ),
    "eval_batch_size": (32, "Images a step in evaluation; results do not depend on it."),
    "parallel": ("jit", "Layout over devices: 'jit' (global arrays) or 'pmap' (one program a device); same numbers."),
    "dataset.name": ("cervix/synthetic", "TFDS data set: cervix/synthetic, cervix/initial or cervix/cleaned."),
    "dataset.manual_dir": (str, "Folder of raw photographs (train/Type_1..3, additional/Type_1..3, test)."),
    "dataset.data_dir": (str, "Root of prepared data sets; without a value TFDS' own, ~/tensorflow_datasets."),
    "dataset.image_size": ((320, 240), "Height and width in pixels that networks see (report section 5.1)."),
    "dataset.resize": ("stretch", "'stretch' to image_size as the report does, or 'fit': keep the aspect, pad black."),
    "dataset.crop": (1.0, "Fraction of each side kept around the centre (report section 8: 1.0 to 0.4)."),
    "dataset.cache_bytes": (4 << 30, "Decoded images are held in memory up to this size, else decoded every epoch."),
    "dataset.num_threads": (2, "Threads that decode and assemble batches ahead of the device."),
    "selection.folds": (5, "Folds of the initial photographs; 5: 20 % validate, as in the report."),
    "selection.fold": (4, "The fold that validates, 0 to folds - 1."),
    "selection.split": (
        "grouped",
        "'grouped': stratified folds, near-duplicates together; 'random': with no regard to either, as the report.",
    ),
    "selection.labels": ("corrected", "'corrected': Kaggle's published corrections applied; or 'folder'."),
    "selection.additional": (
        "cleaned",
        "Additional photographs to train on: 'cleaned' (report section 10), 'none' or 'all'; never near-duplicates of "
        "an initial or test one.",
    ),
    "selection.keep_fraction": (0.5, "Share of the additional ones that is closest in colours. Not in report."),
    "selection.sharpness": (1.0, "Of the least sharp initial one, that an additional one must have (section 10: 1)."),
    "selection.fitted_on": (
        "training",
        "Colours and sharpness to compare with: 'training' leaves the validation fold out; 'initial': the report's.",
    ),
    "selection.one_vs_rest": ("none", "Or Type_1, Type_2, Type_3: tell that type from the others (section 15)."),
    "augmentation.horizontal_flip": (True, "Mirror left and right with probability 1/2 (report section 5.2)."),
    "augmentation.vertical_flip": (True, "Mirror top and bottom with probability 1/2 (report section 5.2)."),
    "augmentation.translation": (0.1, "Largest shift, as a fraction of height and width. Not in report."),
    "augmentation.shear": (0.1, "Largest shear: shift in pixels a pixel. Not in report."),
    "augmentation.zoom": (0.1, "Largest change of scale, 0.1 for 0.9 to 1.1. Not in report."),
    "model.name": ("inception_residual", "inception_residual (section 7), naive_transfer or vanilla_cnn (section 6)."),
    "model.dtype": ("float32", "float32, or bfloat16: computed in half precision, parameters and loss in float32."),
    "model.dropout_rate": (0.4, "Probability of dropping a feature before the logits (report section 7)."),
    "model.batch_norm": (True, "Batch norm in what is added to the backbone (report section 5.2); else biases."),
    "model.remat": (
        False,
        "Compute the blocks of an inception_residual head again in the backward pass instead of keeping them: less "
        "memory, more time; XLA for CPU keeps them all the same.",
    ),
    "model.widths": ((64, 128, 256, 512), "Channels of the head's stages, multiples of 4. Not in report."),
    "model.blocks": ((1, 2, 2, 2), "Residual blocks of each stage. Not in report."),
    "model.backbone.name": (
        "resnet50",
        "resnet50 (v1, Keras' weights), resnet50_v1_5 (torchvision's), inception_v3 (Keras'), or none: the head "
        "reads the photograph itself (section 11.1).",
    ),
    "model.backbone.cut": (
        AnyType("conv1_bn"),
        "Last layer of the backbone: its name, or the report's number of layers (section 11: 3, 6, 12, 20).",
    ),
    "model.backbone.weights": (str, "Weights of the backbone: a path, or 'imagenet' for the published file."),
    "model.backbone.allow_random": (False, "Let a backbone start from random weights; otherwise an error."),
    "model.backbone.trainable": (
        AnyType("none"),
        "'none' (frozen, section 11.3), 'all', or stages: ('conv1', 'conv2'), on the command line conv1,conv2.",
    ),
    "optimizer.learning_rate": (1e-3, "Adam's step size in the first epoch. Not in report."),
    "optimizer.reference_batch": (
        0,
        "Above 0, learning_rate is for batches of this size and grows in proportion to batch_size (Goyal et al. 2017). "
        "Not in report.",
    ),
    "optimizer.warmup_epochs": (
        0.0,
        "The learning rate rises from 0 over these epochs, before and beside the schedule. Not in report.",
    ),
    "optimizer.schedule": (
        "inverse",
        "Learning rate of epoch e, constant within it: 'inverse' lr / (1 + decay * e), as Keras' decay is read, "
        "or 'exponential' lr * (1 - decay)^e.",
    ),
    "optimizer.decay": (0.01, "Decay of the learning rate each epoch (report section 7)."),
    "optimizer.l2": (5e-4, "Times the sum of squared kernels, added to the training loss (report section 7)."),
    "optimizer.ema_decay": (
        0.0,
        "Above 0, an exponential moving average of parameters and batch statistics is kept, validated and checkpointed "
        "beside them; 0.995 averages over about 200 steps. Not in report.",
    ),
    "loss.class_weights": ((), "Multiplies each example's term by its type's (report section 9); none: all 1."),
}  # fmt: skip

# What may change when a work directory is continued: how long, and where things are, but not what is computed.
CHANGEABLE_ON_RESUME = frozenset(
    {
        "epochs",
        "parallel",
        "eval_batch_size",
        "dataset.manual_dir",
        "dataset.data_dir",
        "dataset.cache_bytes",
        "dataset.num_threads",
        "model.backbone.weights",
    }
)

_NOT_NEGATIVE = ("reference_batch", "warmup_epochs")
_CHOICES: dict[str, tuple[str, ...]] = {
    "dataset.resize": ("stretch", "fit"),
    "selection.split": ("grouped", "random"),
    "selection.labels": ("corrected", "folder"),
    "selection.additional": ("cleaned", "none", "all"),
    "selection.fitted_on": ("training", "initial"),
    "selection.one_vs_rest": ("none", "Type_1", "Type_2", "Type_3"),
    "parallel": ("jit", "pmap"),
    "model.name": ("inception_residual", "naive_transfer", "vanilla_cnn"),
    "model.dtype": ("float32", "bfloat16"),
    "model.backbone.name": ("resnet50", "resnet50_v1_5", "inception_v3", "none"),
    "optimizer.schedule": ("inverse", "exponential"),
}


class ConfigError(UserError):
    """An option has an unknown name or a value that cannot work; the message says which and what would."""


def get_config() -> ml_collections.ConfigDict:
    """The defaults, locked. Start a config file from it and assign what differs."""
    config = ml_collections.ConfigDict()
    for name, (default, _) in OPTIONS.items():
        *groups, key = name.split(".")
        node = config
        for group in groups:
            if group not in node:
                node[group] = ml_collections.ConfigDict()
            node = node[group]
        if isinstance(default, type):
            default = config_dict.placeholder(default)
        if isinstance(default, AnyType):
            default = config_dict.FieldReference(default.value, field_type=object)
        node[key] = default
    return config.lock()


def validate(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Returns the config if every value can work.

    Raises:
      ConfigError: naming the option, its value and what it may be.
    """
    flat = flatten(config)
    check_names(flat)
    for name, choices in _CHOICES.items():
        if flat[name] not in choices:
            raise ConfigError(f"config.{name} is {flat[name]!r}; it must be one of {', '.join(choices)}")
    sizes = ("epochs", "batch_size", "accumulate", "eval_batch_size", "dataset.num_threads")
    wrong = [(name, "at least 1") for name in sizes if flat[name] < 1]
    wrong += [(f"optimizer.{name}", "at least 0") for name in _NOT_NEGATIVE if flat[f"optimizer.{name}"] < 0]
    if not wrong and flat["batch_size"] % flat["accumulate"]:
        wrong.append(("accumulate", f"a divisor of config.batch_size, {flat['batch_size']}"))
    if len(flat["dataset.image_size"]) != 2 or min(flat["dataset.image_size"]) < 1:
        wrong.append(("dataset.image_size", "(height, width) in pixels"))
    if flat["selection.folds"] < 2:
        wrong.append(("selection.folds", "at least 2"))
    elif not 0 <= flat["selection.fold"] < flat["selection.folds"]:
        wrong.append(("selection.fold", f"0 to {flat['selection.folds'] - 1}"))
    if not 0 <= flat["selection.keep_fraction"] <= 1:
        wrong.append(("selection.keep_fraction", "0 to 1"))
    if not 0 < flat["dataset.crop"] <= 1:
        wrong.append(("dataset.crop", "above 0 and at most 1"))
    if not 0 <= flat["model.dropout_rate"] < 1:
        wrong.append(("model.dropout_rate", "at least 0 and below 1"))
    if not 0 <= flat["augmentation.zoom"] < 1:
        wrong.append(("augmentation.zoom", "at least 0 and below 1"))
    if not 0 <= flat["optimizer.ema_decay"] < 1:
        wrong.append(("optimizer.ema_decay", "at least 0 and below 1"))
    if any(width % 4 or width < 4 for width in flat["model.widths"]):
        wrong.append(("model.widths", "multiples of 4"))
    if len(flat["model.widths"]) != len(flat["model.blocks"]):
        wrong.append(("model.blocks", "as many numbers as config.model.widths"))
    classes = num_classes(config)
    if len(flat["loss.class_weights"]) not in (0, classes) or min(flat["loss.class_weights"], default=0) < 0:
        wrong.append(("loss.class_weights", f"{classes} numbers, none negative, or no numbers"))
    if flat["model.name"] == "naive_transfer" and flat["model.backbone.name"] == "none":
        wrong.append(("model.backbone.name", "a network, since config.model.name is naive_transfer"))
    if flat["model.remat"] and flat["parallel"] == "pmap":
        wrong.append(("model.remat", "False with config.parallel=pmap"))
    if wrong:
        raise ConfigError("; ".join(f"config.{name} is {flat[name]!r}; it must be {what}" for name, what in wrong))
    return config


def num_classes(config: ml_collections.ConfigDict) -> int:
    """Logits of the run's network."""
    return 3 if config.selection.one_vs_rest == "none" else 2


def check_names(names: Iterable[str]) -> None:
    """Raises ConfigError for the first name that is no option, naming the nearest that is."""
    for name in names:
        if name not in OPTIONS:
            raise ConfigError(f"there is no option config.{name}; the nearest is config.{nearest(name, OPTIONS)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is spelt most like `name`."""
    return max(known, key=lambda other: difflib.SequenceMatcher(None, name, other).ratio())


def flatten(config: Mapping[str, Any] | ml_collections.ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Dotted names to values; lists become tuples, so that a config read back from JSON equals the one written."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping | ml_collections.ConfigDict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = tuple(value) if isinstance(value, list) else value
    return flat


def unflatten(flat: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """The locked config with the given options and defaults for the others.

    Raises:
      ConfigError: for a name that is no option.
    """
    check_names(flat)
    config = get_config()
    config.update_from_flattened_dict(dict(flat))
    return config


def differences(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What keeps a work directory from being continued, a line an option; both arguments are flat.

    An option that is younger than the run had its default.
    """
    recorded = flatten(get_config()) | dict(recorded)
    return [
        f"config.{name}: the work directory has {recorded[name]!r}, this command {wanted[name]!r}"
        for name in OPTIONS
        if name not in CHANGEABLE_ON_RESUME and recorded[name] != wanted[name]
    ]
