"""Figures are drawn of what there is."""

import numpy as np
import pytest
from PIL import Image

from cervix_jax.experiments import table_figures
from cervix_jax.experiments.report_tables import EXPERIMENTS
from cervix_jax.experiments.results import table_rows
from tests.experiments.fake_results import make_result, make_table, random_probabilities


def some_results(name: str) -> dict:
    experiment = EXPERIMENTS[name]
    chosen = dict.fromkeys([*experiment.systems[:3], *(s for s in experiment.systems if s in ("initial", "report"))])
    return {system: make_result(system, make_table(random_probabilities(i))) for i, system in enumerate(chosen)}


@pytest.mark.parametrize("name", ["class_weights", "cleaning"])
def test_tables_are_drawn_of_the_systems_that_are_finished(tmp_path, name: str) -> None:
    experiment = EXPERIMENTS[name]
    assert table_figures.draw_table(name, experiment, table_rows(experiment, {}), tmp_path) == []
    paths = table_figures.draw_table(name, experiment, table_rows(experiment, some_results(name)), tmp_path)
    more = {"class_weights": ["class_weights_confusion"], "cleaning": ["cleaning_grid"]}
    assert [path.stem for path in paths] == [name, *more[name]]
    assert all(path.stat().st_size > 5000 for path in paths)


def test_one_picture_shows_all_comparisons_without_colours(tmp_path) -> None:
    rows = {name: table_rows(EXPERIMENTS[name], some_results(name)) for name in ("cropping", "depth")}
    table_figures.forest(rows, tmp_path / "forest.png")
    pixels = np.asarray(Image.open(tmp_path / "forest.png").convert("RGB")).astype(int)
    assert np.ptp(pixels, axis=-1).max() < 8  # grey
    assert pixels.min() < 50


def test_figures_of_other_photographs_are_not_set_against_the_base() -> None:
    rows = {row["title"]: row for row in table_rows(EXPERIMENTS["ensemble"], some_results("ensemble"))}
    single, weighted = rows["single network"], rows["ensemble, weighted by 0.95 - loss"]
    assert table_figures.published(single, "loss") == 0.7157
    assert table_figures.published(weighted, "loss") is None  # 0.7452, on Kaggle's test images


def test_learning_curves_are_drawn(tmp_path) -> None:
    table_figures.learning_curves(make_result("report", make_table(random_probabilities(0))), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000
