"""Options: defaults, names, values, and what a work directory accepts."""

import importlib.util
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cervix_jax import config as options

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_file_loads_and_can_work(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    assert options.validate(config) is config
    assert set(options.flatten(config)) == set(options.OPTIONS)


def test_every_option_has_a_sentence_and_where_it_is_from():
    for name, (_, meaning) in options.OPTIONS.items():
        assert meaning.endswith("."), name
    for name in ("optimizer.learning_rate", "batch_size", "epochs", "augmentation.shear"):
        assert "Not in report" in options.OPTIONS[name][1]
    for name in ("optimizer.l2", "optimizer.decay", "model.dropout_rate"):
        assert "report" in options.OPTIONS[name][1]


def test_defaults_are_the_report_s():
    config = options.get_config()
    assert config.model.dropout_rate == 0.4
    assert config.optimizer.l2 == 5e-4
    assert config.optimizer.decay == 0.01
    assert config.dataset.image_size == (320, 240)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("optimizer.learningrate", "optimizer.learning_rate"), ("dataset.imagesize", "dataset.image_size")],
)
def test_unknown_option_names_the_nearest(wrong, right):
    with pytest.raises(options.ConfigError, match=f"config.{wrong}; the nearest is config.{right}"):
        options.unflatten({wrong: 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dataset.resize", "squash"),
        ("dataset.crop", 0.0),
        ("dataset.crop", 1.5),
        ("dataset.image_size", (320,)),
        ("batch_size", 0),
        ("accumulate", 0),
        ("accumulate", 5),
        ("optimizer.warmup_epochs", -1.0),
        ("model.dropout_rate", 1.0),
        ("model.widths", (6, 8, 8, 8)),
        ("model.blocks", (1,)),
        ("loss.class_weights", (1.0, 2.0)),
        ("loss.class_weights", (1.0, 2.0, -1.0)),
        ("selection.one_vs_rest", "Type_4"),
        ("parallel", "threads"),
        ("optimizer.schedule", "cosine"),
        ("augmentation.zoom", 1.0),
    ],
)
def test_value_that_cannot_work_is_named(name, value):
    config = options.get_config()
    config.update_from_flattened_dict({name: value})
    with pytest.raises(options.ConfigError, match=f"config.{name}"):
        options.validate(config)


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


def test_differences_allow_more_epochs_and_moved_folders_only():
    recorded = options.flatten(options.get_config())
    moved = recorded | {"epochs": 99, "dataset.data_dir": "elsewhere", "model.backbone.weights": "x.h5"}
    assert options.differences(recorded, moved) == []
    (line,) = options.differences(recorded, recorded | {"seed": 7})
    assert "config.seed" in line
    assert "0" in line
    assert "7" in line


def test_an_option_of_several_types_takes_each():
    for cut, trainable in ((12, ["conv1", "conv2"]), ("conv2_block1_3_conv", "conv1,conv2")):
        config = options.get_config()
        config.model.backbone.cut, config.model.backbone.trainable = cut, trainable
        assert options.flatten(config)["model.backbone.cut"] == cut
    assert options.get_config().model.backbone.cut == "conv1_bn"  # no config shares another's


def test_class_weights_count_the_classes():
    config = options.unflatten({"selection.one_vs_rest": "Type_1", "loss.class_weights": (1.0, 5.0)})
    assert options.validate(config) is config
    config.loss.class_weights = (1.0, 1.0, 1.0)
    with pytest.raises(options.ConfigError, match="2 numbers"):
        options.validate(config)


def test_naive_transfer_needs_a_network():
    config = options.unflatten({"model.name": "naive_transfer", "model.backbone.name": "none"})
    with pytest.raises(options.ConfigError, match="naive_transfer"):
        options.validate(config)
