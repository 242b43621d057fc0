"""Every option of the software: its name, default and meaning; `configs/*.py` are overrides of these defaults.

A run is described by one `ml_collections.ConfigDict`. It is locked: an unknown key, in a file or on the command line,
is an error that names the nearest option. Defaults are the report's best system (sections 5 to 11); where the report
gives no value the sentence says 'not in report'. Nothing here imports JAX, so that programs start fast.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
from ml_collections import config_dict

from cervix_jax.constraints import CONSTRAINTS, Flat
from cervix_jax.errors import UserError
from cervix_jax.models.backbones import BACKBONES
from cervix_jax.models.heads import HEADS


class AnyType(NamedTuple):
    """Default of an option that takes values of several types."""

    value: Any


# name -> (default, meaning). A type as default means: no value unless one is given.
OPTIONS: dict[str, tuple[Any, str]] = {
    "seed": (0, "Seed of initial weights, shuffling, augmentation and dropout; data sets do not depend on it."),
    "task": ("classify", "'classify': the type of a photograph; 'localise': the box around the cervix."),
    "epochs": (30, "Passes over the training images; a finished run can be resumed with more. Not in report."),
    "patience": (
        0,
        "Above 0, training ends after this many epochs in a row without a lower validation loss, of the moving average "
        "if one is kept. Not in report.",
    ),
    "batch_size": (32, "Training images per step, over all devices. Not in report."),
    "accumulate": (1, "Microbatches per batch, one after another, to save memory; batch norm sees one at a time."),
    "batch_norm_groups": (1, "Parts of a batch that batch norm sees apart: ghost batch norm (Hoffer et al. 2017)."),
    "eval_batch_size": (32, "Images per batch in evaluation; results do not depend on it."),
    "parallel": ("jit", "Data parallelism by 'jit' (global arrays) or 'pmap' (a program per device); same numbers."),
    "init.workdir": (
        str,
        "Work directory of a run, or of a cross-validation (its run of the same fold), whose weights training starts "
        "from: fine-tuning on photographs of one's own. The network must be the same. Not in report.",
    ),
    "dataset.name": ("cervix/synthetic", "TFDS data set: cervix/synthetic, cervix/initial or cervix/cleaned."),
    "dataset.manual_dir": (
        str,
        "Folder of raw photographs (train/Type_1..3, additional/Type_1..3, test), or a CSV: path,type[,case][,split].",
    ),
    "dataset.data_dir": (str, "Root of prepared data sets; by default that of TFDS, ~/tensorflow_datasets."),
    "dataset.case_pattern": (
        "",
        "Regular expression that finds the case (the woman) of a photograph in its name, as a group: "
        "'atlas_(?P<case>[^_]+)_'. Folds keep cases together, those of cases.csv in manual_dir too. Not in report.",
    ),
    "dataset.image_size": ((320, 240), "Height and width in pixels of the network's input (report section 5.1)."),
    "dataset.resize": (
        "stretch",
        "'stretch' to image_size, as in the report, or 'fit': keep the aspect ratio and pad with black.",
    ),
    "dataset.crop": (
        AnyType(1.0),
        "Fraction of height and width that a centre crop keeps (report section 8: 1.0 to 0.4); or 'boxes': crop to the "
        "boxes that were drawn; or the work directory of a localiser: crop to the boxes that it finds; "
        "or 'init': those that the localiser of init.workdir finds.",
    ),
    "dataset.crop_margin": (0.1, "Margin on each side of a box that is cropped to, as a fraction of the box."),
    "dataset.annotator": ("", "Whose boxes to use, where several people have drawn them."),
    "dataset.readers": (
        "",
        "CSV file of labels by several readers (image_name,reader,type): photographs are trained towards the shares of "
        "their readers, and validated by the labels of selection.labels. Not in report.",
    ),
    "dataset.cache_bytes": (4 << 30, "Decoded images are cached in memory up to this size, then decoded every epoch."),
    "dataset.num_threads": (2, "Threads that decode and batch images ahead of the device."),
    "selection.folds": (5, "Number of folds of the initial photographs; with 5, 20 % validate, as in the report."),
    "selection.fold": (4, "The fold that validates, 0 to folds - 1."),
    "selection.split": (
        "grouped",
        "'grouped': stratified folds that keep near-duplicates together; 'random': ignoring both, as in the report.",
    ),
    "selection.labels": ("corrected", "'corrected': with Kaggle's published corrections; or 'folder'."),
    "selection.additional": (
        "cleaned",
        "Additional photographs to train on: 'cleaned' (report section 10), 'none' or 'all'; never near-duplicates of "
        "an initial or test photograph.",
    ),
    "selection.keep_fraction": (
        0.5,
        "Fraction of the additional photographs that is kept: those closest in colour. Not in report.",
    ),
    "selection.sharpness": (
        1.0,
        "Least sharpness of an additional photograph, as a multiple of the least sharp initial one's (section 10: 1).",
    ),
    "selection.fitted_on": (
        "training",
        "Photographs whose colour and sharpness additional ones are compared with: 'training', without the validation "
        "fold, or 'initial', all of them, as in the report.",
    ),
    "selection.one_vs_rest": ("none", "Or Type_1, Type_2, Type_3: a binary label, that type or not (section 15)."),
    "selection.exclude": (
        "",
        "CSV file whose column image_name lists photographs that are not to be trained on, such as findings, each by "
        "as much of the end of its path as is unique; they still validate. Not in report.",
    ),
    "augmentation.horizontal_flip": (True, "Flip left and right with probability 1/2 (report section 5.2)."),
    "augmentation.vertical_flip": (True, "Flip top and bottom with probability 1/2 (report section 5.2)."),
    "augmentation.translation": (0.1, "Largest shift, as a fraction of height and width. Not in report."),
    "augmentation.shear": (0.1, "Largest shear: pixels of shift per pixel of distance. Not in report."),
    "augmentation.zoom": (0.1, "Largest change of scale, 0.1 for 0.9 to 1.1. Not in report."),
    "augmentation.rotation": (0.0, "Largest rotation in degrees. Not in report."),
    "augmentation.color_jitter": (
        0.0,
        "Largest change of each channel's mean and of the contrast, 0.2 for factors of 0.8 to 1.2. Not in report.",
    ),
    "augmentation.hue": (
        0.0,
        "Largest turn of all colours about the grey axis in degrees, as by another white balance. Not in report.",
    ),
    "augmentation.saturation": (0.0, "Largest change of saturation, 0.2 for factors of 0.8 to 1.2. Not in report."),
    "augmentation.blur": (0.0, "Largest standard deviation of a Gaussian blur in pixels. Not in report."),
    "augmentation.cutout": (
        0.0,
        "Sides of a rectangle that is blanked at a random place, as a fraction of height and width (DeVries & Taylor "
        "2017). Not in report.",
    ),
    "augmentation.mixup": (
        0.0,
        "Above 0, each training image is blended with the one before it in the batch, and their losses likewise, by "
        "factors from a beta distribution of these two parameters (Zhang et al. 2018). Not in report.",
    ),
    "augmentation.cutmix": (
        0.0,
        "Above 0, a rectangle of the image before it in the batch is pasted into each training image, of an area from "
        "a beta distribution of these two parameters, and their losses are blended (Yun et al. 2019). Not in report.",
    ),
    "model.name": ("inception_residual", f"The head: {', '.join(HEADS)} (report sections 6 and 7)."),
    "model.dtype": ("float32", "float32; or bfloat16: activations in half precision, parameters and loss in float32."),
    "model.dropout_rate": (0.4, "Probability of dropping a feature before the logits (report section 7)."),
    "model.drop_path_rate": (
        0.0,
        "Probability of skipping the last residual block of an inception_residual head for an example, linearly less "
        "in those before it: stochastic depth (Huang et al. 2016). Not in report.",
    ),
    "model.batch_norm": (True, "Batch norm in the head (report section 5.2); without it, biases."),
    "model.remat": (
        False,
        "Recompute the blocks of an inception_residual head in the backward pass instead of keeping activations: less "
        "memory, more time. No effect on CPU, where XLA undoes it.",
    ),
    "model.widths": ((64, 128, 256, 512), "Channels of an inception_residual head's stages. Not in report."),
    "model.blocks": ((1, 2, 2, 2), "Residual blocks of each stage of an inception_residual head. Not in report."),
    "model.backbone.name": (
        "resnet50",
        f"The pretrained network before the head: {', '.join(BACKBONES)}; or none: the head reads the photograph "
        "itself (report section 11.1).",
    ),
    "model.backbone.cut": (
        AnyType("conv1_bn"),
        "Last layer of the backbone: its name, or the report's number of layers (section 11: 3, 6, 12, 20).",
    ),
    "model.backbone.weights": (str, "Weights of the backbone: a path, or 'imagenet' for the published file."),
    "model.backbone.allow_random": (False, "Start the backbone from random weights instead of refusing to."),
    "model.backbone.trainable": (
        AnyType("none"),
        "'none' (frozen, section 11.3), 'all', or stages: ('conv1', 'conv2'), on the command line conv1,conv2.",
    ),
    "model.backbone.frozen_norm": (
        False,
        "Batch norms of trained stages keep the pretrained statistics, as those of frozen stages do. Not in report.",
    ),
    "optimizer.learning_rate": (1e-3, "Adam's learning rate in the first epoch. Not in report."),
    "optimizer.reference_batch": (
        0,
        "Above 0, learning_rate is for batches of this size and scales linearly with batch_size (Goyal et al. 2017). "
        "Not in report.",
    ),
    "optimizer.warmup_epochs": (
        0.0,
        "Epochs of linear warm-up: the schedule is multiplied by a factor that rises from 0 to 1. Not in report.",
    ),
    "optimizer.schedule": (
        "inverse",
        "Learning rate in epoch e, constant within it: 'inverse': lr / (1 + decay * e), which is Keras' decay, or "
        "'exponential': lr * (1 - decay)^e; or 'cosine': half a cosine down to 0 after the last epoch.",
    ),
    "optimizer.decay": (0.01, "Decay of the learning rate per epoch (report section 7)."),
    "optimizer.l2": (5e-4, "Factor of the sum of squared kernels in the training loss (report section 7)."),
    "optimizer.ema_decay": (
        0.0,
        "Above 0, decay of an exponential moving average of parameters and batch statistics, which is validated and "
        "checkpointed beside them; 0.995 averages over about 200 steps. Not in report.",
    ),
    "optimizer.weight_decay": (
        0.0,
        "Decoupled decay of kernels per step, times the learning rate (AdamW, Loshchilov & Hutter 2019); set l2 to 0 "
        "with it. Not in report.",
    ),
    "optimizer.clip_norm": (0.0, "Above 0, gradients of a larger global norm are scaled to it. Not in report."),
    "optimizer.backbone_rate": (
        1.0,
        "Factor of the learning rate in the last trained stage of the backbone; the stage before has its square, and "
        "so on (Howard & Ruder 2018). Not in report.",
    ),
    "optimizer.unfreeze_epochs": (
        0.0,
        "Epochs for which the last trained stage of the backbone rests at first; the stage before rests twice as long, "
        "and so on: gradual unfreezing (Howard & Ruder 2018). Not in report.",
    ),
    "loss.label_smoothing": (
        0.0,
        "Probability that training targets spread evenly over all types (Szegedy et al. 2016). Not in report.",
    ),
    "loss.ambiguity": (
        0.0,
        "Probability that training targets move from type 2 to 3 and from 3 to 2, which experts often confuse. Not in "
        "report.",
    ),
    "loss.class_weights": ((), "Weight of each type's examples in the loss (report section 9); none: all 1."),
}  # fmt: skip

# What may differ when a run is resumed: how long it trains and where its files are, but not what is computed.
CHANGEABLE_ON_RESUME = frozenset(
    {
        "epochs",
        "patience",
        "parallel",
        "eval_batch_size",
        "dataset.manual_dir",
        "dataset.data_dir",
        "dataset.cache_bytes",
        "dataset.num_threads",
        "model.backbone.weights",
        "init.workdir",
    }
)


class ConfigError(UserError):
    """An option has an unknown name or an invalid value; the message says which, and what would be valid."""


def get_config() -> ml_collections.ConfigDict:
    """The defaults, locked. A config file starts from it and assigns what differs."""
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
    """Returns the config if it describes a run: every value is valid, and none is set that the network does not read.

    Raises:
      ConfigError: naming each such option, its value and the way out.
    """
    flat = flatten(config)
    check_names(flat)
    kept = without_ignored(flat)
    problems = [
        f"config.{name} is {kept[name]!r}; it must be {words(kept) if callable(words) else words.format(kept)}"
        for name, is_met, words in CONSTRAINTS
        if not is_met(kept[name], kept)
    ]
    problems += [
        f"config.{name} is {flat[name]!r}, but {_why_ignored(name, flat)}: set it to {value!r}"
        for name, value in kept.items()
        if flat[name] != value
    ]
    problems += [
        f"config.{name} is {value!r}; it must be finite" for name, value in flat.items() if not _is_finite(value)
    ]
    if problems:
        raise ConfigError("; ".join(problems))
    return config


def _is_finite(value: Any) -> bool:
    numbers = value if isinstance(value, tuple) else (value,)
    return all(math.isfinite(number) for number in numbers if isinstance(number, float))


def with_absolute_paths(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """A copy whose paths do not depend on where the program was started; but for `dataset.crop`, as it is written."""
    config = config.copy_and_resolve_references()
    for name in ("manual_dir", "data_dir", "readers"):
        if config.dataset[name]:
            config.dataset[name] = str(Path(config.dataset[name]).absolute())
    for group, name in ((config.selection, "exclude"), (config.init, "workdir")):
        if group[name]:
            group[name] = str(Path(group[name]).absolute())
    return config


def without_ignored(flat: Flat) -> dict[str, Any]:
    """The same options, but those that the network does not read are at their defaults.

    So two runs compute the same if their options without the ignored ones are the same. The backbone is 'none' where
    the head reads photographs.
    """
    if flat["model.name"] not in HEADS:  # nothing is known of what it reads
        return dict(flat)
    head, kept, defaults = HEADS[flat["model.name"]], dict(flat), flatten(get_config())
    if head.backbone == "unsupported":
        kept["model.backbone.name"] = "none"
    ignored = {f"model.{option}" for other in HEADS.values() for option in other.options if option not in head.options}
    if kept["model.backbone.name"] == "none":
        ignored |= {name for name in OPTIONS if name.startswith("model.backbone.")} - {"model.backbone.name"}
    return kept | {name: defaults[name] for name in ignored}


def _why_ignored(name: str, flat: Flat) -> str:
    if name == "model.backbone.name":
        return f"the head {flat['model.name']} reads photographs"
    if name.startswith("model.backbone."):
        return "there is no backbone"
    readers = [head for head, entry in HEADS.items() if name.removeprefix("model.") in entry.options]
    return f"the head {flat['model.name']} does not read it (only {', '.join(readers)})"


def num_classes(config: ml_collections.ConfigDict) -> int:
    """Number of classes that a run tells apart."""
    return 3 if config.selection.one_vs_rest == "none" else 2


def check_names(names: Iterable[str]) -> None:
    """Raises ConfigError for the first name that is no option, naming the nearest."""
    for name in names:
        if name not in OPTIONS:
            raise ConfigError(f"no option config.{name}; did you mean config.{nearest(name, OPTIONS)}?")


def nearest(name: str, choices: Iterable[str]) -> str:
    """The choice whose spelling is most similar to `name`."""
    return max(choices, key=lambda choice: difflib.SequenceMatcher(None, name, choice).ratio())


def flatten(config: Mapping[str, Any] | ml_collections.ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Dotted names to values; lists become tuples, so that a config read from JSON equals the one written."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping | ml_collections.ConfigDict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = tuple(value) if isinstance(value, list) else value
    return flat


def unflatten(flat: Flat) -> ml_collections.ConfigDict:
    """The locked config with the given options, and defaults for the others.

    Raises:
      ConfigError: for a name that is no option.
    """
    check_names(flat)
    config = get_config()
    config.update_from_flattened_dict(dict(flat))
    return config


def _split_stages(flat: dict[str, Any]) -> dict[str, Any]:
    """The same options with 'conv2,conv3', as it is written on the command line, as a tuple."""
    stages = flat["model.backbone.trainable"]
    if isinstance(stages, str) and "," in stages:
        flat["model.backbone.trainable"] = tuple(stage.strip() for stage in stages.split(","))
    return flat


def differences(recorded: Flat, requested: Flat) -> list[str]:
    """Why a run cannot be resumed with the requested options: a line for each option that must not change but would.

    An option that is younger than the run had its default; options that the network does not read make no difference.
    """
    defaults = flatten(get_config())
    recorded, requested = (_split_stages(without_ignored(defaults | dict(flat))) for flat in (recorded, requested))
    changeable = CHANGEABLE_ON_RESUME - ({"epochs"} if recorded["optimizer.schedule"] == "cosine" else set())
    return [
        f"config.{name}: the work directory has {recorded[name]!r}, this command {requested[name]!r}"
        for name in OPTIONS
        if name not in changeable and recorded[name] != requested[name]
    ]
