"""The report's tables as data, and the systems that they compare."""

import importlib

import pytest

from cervix_jax import config as options
from cervix_jax.experiments import variants
from cervix_jax.experiments.report_tables import EXPERIMENTS, PUBLISHED_IMAGES

ROWS = [row for experiment in EXPERIMENTS.values() for row in experiment.rows]


def test_the_experiments_are_the_report_s() -> None:
    assert list(EXPERIMENTS) == [
        "baselines",
        "cropping",
        "class_weights",
        "cleaning",
        "features",
        "depth",
        "finetune",
        "regularisation",
        "ensemble",
        "one_vs_rest",
    ]


def test_every_system_is_compared_somewhere_and_none_is_missing() -> None:
    assert {name for row in ROWS for name in row.systems} == set(variants.VARIANTS)


def test_published_accuracies_are_whole_numbers_of_validation_images() -> None:
    published = {row.published.accuracy for row in ROWS} - {None}
    odd = {a for a in published if abs(a * PUBLISHED_IMAGES - round(a * PUBLISHED_IMAGES)) > 0.02}
    assert odd == {0.5152}  # the report's own
    assert len(published) == 18


def test_a_system_that_is_published_twice_has_the_same_numbers() -> None:
    for name in variants.VARIANTS:
        same = [row.published for row in ROWS if row.systems == (name,) and row.published.loss is not None]
        found = {(published.loss, published.accuracy) for published in same}
        assert len(found) <= 1, name


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_every_system_is_a_config_that_can_work(name: str) -> None:
    config = variants.get_config(name)
    assert options.validate(config) is config
    assert importlib.import_module("configs.system").get_config(name).to_dict() == config.to_dict()


def test_no_two_systems_are_the_same() -> None:
    known = [
        (s.kind, s.epoch, str(options.flatten(variants.get_config(name)))) for name, s in variants.VARIANTS.items()
    ]
    assert len(set(known)) == len(known)


def test_an_unknown_system_names_the_nearest() -> None:
    with pytest.raises(options.ConfigError, match="'crop70'; the nearest is crop_70"):
        variants.get_config("crop70")


@pytest.mark.parametrize(
    ("file", "system"),
    [
        ("report", "report"),
        ("vanilla_cnn", "vanilla_cnn"),
        ("naive_resnet50", "naive_resnet50"),
        ("naive_inception_v3", "naive_inception_v3"),
        ("no_backbone", "no_backbone"),
        ("one_vs_rest", "one_vs_rest_1"),
    ],
)
def test_config_files_are_the_systems_but_for_the_data(file: str, system: str) -> None:
    of_file = options.flatten(importlib.import_module(f"configs.{file}").get_config())
    of_system = options.flatten(variants.get_config(system))
    assert of_file.pop("dataset.name") == "cervix/initial"  # which has no additional photographs
    assert of_system.pop("dataset.name") == "cervix/cleaned"
    del of_file["selection.additional"], of_system["selection.additional"]
    assert of_file == of_system
