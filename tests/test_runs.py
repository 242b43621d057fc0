"""Run record and metrics of a work directory; `training/test_loop.py` has those of real runs."""

import json

import pytest

from cervix_jax import config as options
from cervix_jax import runs


def test_a_new_run_is_recorded_and_can_be_resumed(tmp_path) -> None:
    config = options.get_config()
    runs.open_run(tmp_path / "run", config)
    record = runs.read_record(tmp_path / "run")
    assert options.flatten(record["config"]) == options.flatten(config)
    assert {"python", "jax", "cervix_jax"} <= set(record["versions"])
    assert record["revision"] is None or len(record["revision"].removesuffix("-dirty")) == 40
    config.epochs, config.parallel = 100, "pmap"  # neither changes what is computed
    runs.open_run(tmp_path / "run", config)
    assert runs.read_record(tmp_path / "run")["config"]["epochs"] == 100


def test_a_run_of_another_config_is_refused_with_every_difference(tmp_path) -> None:
    config = options.get_config()
    runs.open_run(tmp_path, config)
    before = runs.read_record(tmp_path)
    config.batch_size, config.optimizer.decay = 5, 0.5
    with pytest.raises(runs.RunError, match=r"(?s)config.batch_size.*this command 5.*config.optimizer.decay.*0.5"):
        runs.open_run(tmp_path, config)
    with pytest.raises(runs.RunError, match=r"config\.batch_size"):
        runs.check_config(tmp_path, config)
    assert runs.read_record(tmp_path) == before


def test_entries_of_the_record_are_kept_until_replaced(tmp_path) -> None:
    runs.write_record(tmp_path, class_names=["a"], data_fingerprint="x")
    runs.write_record(tmp_path, data_fingerprint="y")
    assert runs.read_record(tmp_path) == {"class_names": ["a"], "data_fingerprint": "y"}
    runs.check_data(tmp_path, "y")
    with pytest.raises(runs.RunError, match="other photographs"):
        runs.check_data(tmp_path, "x")


def test_without_a_record_there_is_no_run(tmp_path) -> None:
    with pytest.raises(runs.RunError, match="holds no run"):
        runs.read_record(tmp_path)


def test_metrics_come_back_without_a_line_that_was_cut_off(tmp_path) -> None:
    assert runs.read_metrics(tmp_path) == []
    rows = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-30}]
    runs.write_metrics(tmp_path, rows)
    assert runs.read_metrics(tmp_path) == rows
    path = tmp_path / runs.METRICS
    path.write_text(path.read_text() + json.dumps(rows[0])[:-3])
    assert runs.read_metrics(tmp_path) == rows
