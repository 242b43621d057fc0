"""Variants are configs that can work, and the files in configs/ are these very configs."""

import importlib
from pathlib import Path

import pytest

from cervix_jax import config as options
from cervix_jax.experiments.variants import VARIANTS, cleaning_variant, get_config

CONFIG_FILES = {path.stem for path in (Path(__file__).parents[2] / "configs").glob("[!_]*.py")}


def test_every_variant_is_a_config_that_can_work() -> None:
    for name in VARIANTS:
        config = get_config(name)
        assert options.validate(config) is config
        assert importlib.import_module("configs.system").get_config(name).to_dict() == config.to_dict()


def test_no_two_variants_are_the_same() -> None:
    distinct = {(v.kind, v.reported_epoch, str(options.flatten(get_config(name)))) for name, v in VARIANTS.items()}
    assert len(distinct) == len(VARIANTS)


def test_all_variants_share_one_data_set_so_that_they_can_be_compared() -> None:
    assert {get_config(name).dataset.name for name in VARIANTS} == {"cervix/cleaned"}
    assert get_config("vanilla_cnn").selection.additional == "none"
    assert get_config("report").selection.additional == "cleaned"


def test_an_unknown_variant_names_the_nearest() -> None:
    with pytest.raises(options.ConfigError, match="'crop70'; the nearest is crop_70"):
        get_config("crop70")


def test_the_report_s_tolerances_are_the_report_s_system() -> None:
    assert cleaning_variant(0.5, 1.0) == "report"
    assert VARIANTS[cleaning_variant(0.25, 4.0)].overrides == {
        "selection.keep_fraction": 0.25,
        "selection.sharpness": 4.0,
    }


@pytest.mark.parametrize(
    "file", sorted(CONFIG_FILES - {"system", "quickstart", "quickstart_localiser", "localiser", "best", "finetune"})
)
def test_config_files_are_variants(file: str) -> None:
    variant = "one_vs_rest_1" if file == "one_vs_rest" else file
    assert importlib.import_module(f"configs.{file}").get_config().to_dict() == get_config(variant).to_dict()
