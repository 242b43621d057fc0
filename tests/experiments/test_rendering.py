"""Pages and figures of tables whose numbers are known."""

import numpy as np
import pytest

from cervix_jax.experiments import rendering
from cervix_jax.experiments.report_tables import EXPERIMENTS, Published, Row
from cervix_jax.experiments.results import table_rows
from cervix_jax.experiments.runner import Run
from tests.experiments.fake_runs import LABELS, make_table, random_probabilities, write_run


def test_a_page_says_what_was_not_run_and_why(tmp_path) -> None:
    runs = [
        write_run(tmp_path, "report", 0, random_probabilities(0)),
        write_run(tmp_path, "report", 1, random_probabilities(1)),
        Run("initial", 0, "runs/initial-0", reason="no weights | at all"),
        Run("crop_85", 0, "runs/crop_85-0"),
    ]
    table = make_table(*(Row(name, (name,), Published(0.7, 0.6)) for name in ("report", "initial", "crop_85")))
    page = rendering.markdown(table, table_rows(table, runs, tmp_path), "Conditions.")
    assert page.startswith("# A table (report section 0)\n\nConditions.\n")
    assert "| initial | 0.7 | 60.0% | not run: no weights / at all |" in page
    assert "| crop_85 | 0.7 | 60.0% | not run |" in page
    assert page.count(" ± ") == 2  # loss and accuracy over two seeds


def test_a_page_names_the_accuracies_inside_the_best_one_s_interval(tmp_path) -> None:
    right = np.eye(3)[LABELS] * 0.8 + 0.2 / 3
    one_wrong, all_wrong = right.copy(), np.roll(right, 1, axis=1)
    one_wrong[0] = all_wrong[0]
    members = {"report": right, "initial": one_wrong, "crop_85": all_wrong}
    runs = [write_run(tmp_path, name, 0, probabilities) for name, probabilities in members.items()]
    published = dict(zip(members, (0.70, 0.66, 0.60), strict=True))
    table = make_table(*(Row(name, (name,), Published(0.7, published[name])) for name in members))
    page = rendering.markdown(table, table_rows(table, runs, tmp_path), "")
    inside = "1 of 2 other accuracies lie inside the 95 % interval of the best, report"
    assert f"Published: {inside} (70.0% on 296 photographs): initial." in page
    assert f"Measured: {inside} (100.0% on 10 photographs): initial." in page
    assert "| report | 0.7 | 70.0% | 0.143 | 100.0% (72.2 to 100.0) | 10.0% | 100% / 100% / 100% | 1 |" in page


@pytest.mark.parametrize("name", ["class_weights", "cleaning", "cropping"])
def test_figures_are_drawn_of_the_runs_that_are_finished(tmp_path, name: str) -> None:
    experiment = EXPERIMENTS[name]
    assert rendering.figures(name, experiment, table_rows(experiment, [], tmp_path), tmp_path) == []
    runs = [write_run(tmp_path, system, 0, random_probabilities(i)) for i, system in enumerate(experiment.systems[:3])]
    paths = rendering.figures(name, experiment, table_rows(experiment, runs, tmp_path), tmp_path)
    more = {"class_weights": ["class_weights_confusion"], "cleaning": ["cleaning_grid"], "cropping": []}
    assert [path.stem for path in paths] == [name, *more[name]]
    assert all(path.stat().st_size > 5000 for path in paths)
