"""Options: defaults, names, values, what the network reads, and what a work directory accepts."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cervix_jax import config as options
from cervix_jax.models.backbones import BACKBONES
from cervix_jax.models.backbones.spec import EndPointError
from cervix_jax.models.heads import HEADS

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_file_loads_and_is_valid(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    assert options.validate(config) is config
    assert set(options.flatten(config)) == set(options.OPTIONS)


def test_every_option_has_a_sentence_and_its_source():
    for name, (_, meaning) in options.OPTIONS.items():
        assert meaning.endswith("."), name
    for name in ("optimizer.learning_rate", "batch_size", "epochs", "augmentation.shear"):
        assert "Not in report" in options.OPTIONS[name][1]
    for name in ("optimizer.l2", "optimizer.decay", "model.dropout_rate"):
        assert "report" in options.OPTIONS[name][1]
    assert all(name in options.OPTIONS["model.name"][1] for name in HEADS)
    assert all(name in options.OPTIONS["model.backbone.name"][1] for name in BACKBONES)


def test_defaults_are_the_report_s():
    config = options.get_config()
    assert config.model.dropout_rate == 0.4
    assert config.optimizer.l2 == 5e-4
    assert config.optimizer.decay == 0.01
    assert config.dataset.image_size == (320, 240)


@pytest.mark.parametrize(
    ("misspelt", "option"),
    [("optimizer.learningrate", "optimizer.learning_rate"), ("dataset.imagesize", "dataset.image_size")],
)
def test_an_unknown_option_names_the_nearest(misspelt, option):
    with pytest.raises(options.ConfigError, match=rf"no option config.{misspelt}; did you mean config.{option}\?"):
        options.unflatten({misspelt: 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dataset.resize", "squash"),
        ("dataset.crop", 0.0),
        ("dataset.crop", 1.5),
        ("dataset.image_size", (320,)),
        ("dataset.image_size", (320.5, 240)),
        ("model.backbone.cut", 3.0),
        ("model.backbone.trainable", 3),
        ("batch_size", 0),
        ("accumulate", 0),
        ("accumulate", 5),
        ("batch_norm_groups", 0),
        ("batch_norm_groups", 5),
        ("selection.folds", 1),
        ("selection.fold", 5),
        ("selection.keep_fraction", 1.5),
        ("optimizer.warmup_epochs", -1.0),
        ("optimizer.ema_decay", 1.0),
        ("model.dropout_rate", 1.0),
        ("model.widths", (6, 8, 8, 8)),
        ("model.blocks", (1,)),
        ("model.name", "transformer"),
        ("model.backbone.name", "resnet51"),
        ("loss.class_weights", (1.0, 2.0)),
        ("loss.class_weights", (1.0, 2.0, -1.0)),
        ("selection.one_vs_rest", "Type_4"),
        ("parallel", "threads"),
        ("optimizer.schedule", "linear"),
        ("augmentation.zoom", 1.0),
        ("seed", -1),
        ("seed", 2**31),
        ("dataset.crop", 1e-9),
        ("dataset.num_threads", 100_000),
        ("dataset.cache_bytes", -1),
        ("selection.sharpness", -1.0),
        ("augmentation.translation", -0.1),
        ("augmentation.shear", 1e9),
        ("augmentation.rotation", 400.0),
        ("model.blocks", (1, 2, -2, 2)),
        ("model.widths", ()),
        ("optimizer.learning_rate", 0.0),
        ("optimizer.learning_rate", -1e-3),
        ("optimizer.learning_rate", float("nan")),
        ("optimizer.l2", -1e-4),
        ("optimizer.l2", float("inf")),
        ("optimizer.decay", -0.1),
        ("loss.class_weights", (0.0, 0.0, 0.0)),
        ("loss.class_weights", (1.0, float("nan"), 1.0)),
        ("augmentation.cutout", 1.0),
        ("augmentation.blur", -1.0),
        ("optimizer.unfreeze_epochs", -1.0),
        ("model.drop_path_rate", 1.0),
        ("augmentation.mixup", -0.1),
        ("optimizer.weight_decay", -1e-4),
        ("optimizer.clip_norm", -1.0),
        ("optimizer.backbone_rate", 0.0),
        ("loss.label_smoothing", 1.0),
        ("loss.ambiguity", 0.6),
    ],
)
def test_an_invalid_value_is_named(name, value):
    config = options.get_config()
    config.update_from_flattened_dict({name: value})
    with pytest.raises(options.ConfigError, match=rf"config.{name} is .*; it must be ."):
        options.validate(config)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("model.backbone.cut", "²", "no layer '²' in ResNet-50 v1; did you mean"),
        ("model.backbone.trainable", "conv9", "no stage 'conv9' in ResNet-50 v1; did you mean"),
        ("model.backbone.trainable", "conv3", "stage 'conv3' lies beyond the cut at 'conv1_bn'"),
    ],
)
def test_layers_and_stages_are_looked_up_before_any_work(name, value, words) -> None:
    with pytest.raises(EndPointError, match=words):
        options.validate(options.unflatten({name: value}))


def test_all_problems_are_named_at_once_with_the_values_they_depend_on():
    config = options.unflatten({"batch_size": 12, "accumulate": 5, "selection.fold": 7, "model.dropout_rate": 2.0})
    with pytest.raises(options.ConfigError) as error:
        options.validate(config)
    assert str(error.value) == (
        "config.accumulate is 5; it must be a divisor of config.batch_size, 12; "
        "config.selection.fold is 7; it must be at least 0 and below config.selection.folds, 5; "
        "config.model.dropout_rate is 2.0; it must be at least 0 and below 1"
    )


def test_photographs_that_are_too_small_for_the_network_are_refused_with_the_least_size():
    inception = {"model.backbone.name": "inception_v3", "model.backbone.cut": "mixed2", "dataset.image_size": (26, 40)}
    with pytest.raises(options.ConfigError) as error:
        options.validate(options.unflatten(inception))
    assert str(error.value) == (
        "config.dataset.image_size is (26, 40); it must be at least 27 x 27 for "
        "config.model.backbone.name=inception_v3 cut at mixed2"
    )
    options.validate(options.unflatten(inception | {"dataset.image_size": (27, 40)}))


NAIVE, VANILLA = {"model.name": "naive_transfer"}, {"model.name": "vanilla_cnn", "model.backbone.name": "none"}
NO_BACKBONE = {"model.backbone.name": "none"}


@pytest.mark.parametrize(
    ("network", "name", "value", "reason"),
    [
        (NAIVE, "model.widths", (8,), r"the head naive_transfer does not read it \(only inception_residual\)"),
        (VANILLA, "model.remat", True, r"the head vanilla_cnn does not read it \(only inception_residual\)"),
        (NO_BACKBONE, "model.backbone.cut", 12, "there is no backbone"),
        (NO_BACKBONE, "model.backbone.weights", "imagenet", "there is no backbone"),
        (NO_BACKBONE, "model.backbone.trainable", "all", "there is no backbone"),
        (VANILLA, "model.backbone.cut", 12, "there is no backbone"),
        (VANILLA, "model.backbone.name", "inception_v3", "the head vanilla_cnn reads photographs"),
    ],
)
def test_an_option_that_the_network_does_not_read_is_refused(network, name, value, reason):
    config = options.validate(options.unflatten(network))
    config.update_from_flattened_dict({name: value})
    with pytest.raises(options.ConfigError, match=f"config.{name} is .*, but {reason}: set it to "):
        options.validate(config)
    config.update_from_flattened_dict(options.without_ignored(options.flatten(config)))
    assert options.flatten(config) == options.flatten(options.unflatten(network))
    assert options.validate(config) is config


@given(
    size=st.tuples(st.integers(1, 999), st.integers(1, 999)),
    rate=st.floats(1e-6, 1.0),
    folder=st.one_of(st.none(), st.text(max_size=20)),
)
def test_a_config_survives_json(size, rate, folder):
    flat = {"dataset.image_size": size, "optimizer.learning_rate": rate, "dataset.manual_dir": folder}
    config = options.unflatten(flat)
    again = options.unflatten(options.flatten(json.loads(json.dumps(config.to_dict()))))
    assert options.flatten(again) == options.flatten(config)


def test_a_run_is_resumed_with_more_epochs_and_moved_folders_only():
    recorded = options.flatten(options.get_config())
    moved = recorded | {"epochs": 99, "dataset.data_dir": "elsewhere", "model.backbone.weights": "x.h5"}
    assert options.differences(recorded, moved) == []
    (line,) = options.differences(recorded, recorded | {"seed": 7})
    assert "config.seed" in line
    assert "0" in line
    assert "7" in line


def test_a_run_is_resumed_without_the_ignored_options_that_it_was_started_with():
    recorded = options.flatten(options.unflatten({"model.name": "vanilla_cnn", "model.widths": (8, 8, 8, 8)}))
    requested = options.flatten(options.validate(options.unflatten(VANILLA)))
    assert options.differences(recorded, requested) == []
    assert options.differences(recorded, requested | {"model.dropout_rate": 0.1})


def test_an_option_of_several_types_takes_each():
    for cut, trainable in ((12, ["conv1", "conv2"]), ("conv2_block1_3_conv", "conv1,conv2")):
        config = options.get_config()
        config.model.backbone.cut, config.model.backbone.trainable = cut, trainable
        assert options.flatten(config)["model.backbone.cut"] == cut
    assert options.get_config().model.backbone.cut == "conv1_bn"  # no config shares another's


def test_class_weights_are_as_many_as_classes():
    config = options.unflatten({"selection.one_vs_rest": "Type_1", "loss.class_weights": (1.0, 5.0)})
    assert options.validate(config) is config
    config.loss.class_weights = (1.0, 1.0, 1.0)
    with pytest.raises(options.ConfigError, match=r"2 with config\.selection\.one_vs_rest"):
        options.validate(config)


def test_naive_transfer_needs_a_backbone():
    config = options.unflatten(NAIVE | NO_BACKBONE)
    with pytest.raises(options.ConfigError, match="naive_transfer"):
        options.validate(config)


def test_options_are_known_without_jax_and_numpy():
    code = "import sys; import cervix_jax.config; print({'jax', 'numpy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_folders_of_data_are_recorded_wherever_the_program_was_started(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = options.with_absolute_paths(options.unflatten({"dataset.manual_dir": "photos", "dataset.data_dir": "/x"}))
    assert (config.dataset.manual_dir, config.dataset.data_dir) == (str(tmp_path / "photos"), "/x")
    assert options.with_absolute_paths(options.get_config()).to_dict() == options.get_config().to_dict()


def test_a_rate_that_would_end_training_is_refused_where_it_would() -> None:
    options.validate(options.unflatten({"optimizer.decay": 2.0}))  # lr / (1 + 2 e)
    with pytest.raises(options.ConfigError, match=r"below 1 with config\.optimizer\.schedule=exponential"):
        options.validate(options.unflatten({"optimizer.decay": 2.0, "optimizer.schedule": "exponential"}))


def test_stages_are_the_same_however_they_are_written() -> None:
    as_text = {"model.backbone.trainable": "conv1, conv2"}
    assert options.differences(as_text, {"model.backbone.trainable": ("conv1", "conv2")}) == []
    assert len(options.differences(as_text, {"model.backbone.trainable": ("conv1",)})) == 1
