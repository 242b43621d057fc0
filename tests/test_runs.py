"""Work directories: a record is extended, and refused for another run; metrics survive a line cut off by a crash."""

import pytest

from cervix_jax import config as options
from cervix_jax import runs


def test_a_record_is_extended_and_another_config_refused(tmp_path) -> None:
    config = options.get_config()
    runs.open_run(tmp_path / "run", config)
    runs.write_record(tmp_path / "run", data_fingerprint="a")
    runs.open_run(tmp_path / "run", config)
    assert runs.read_record(tmp_path / "run")["data_fingerprint"] == "a"
    with pytest.raises(runs.RunError, match="other photographs"):
        runs.check_data(tmp_path / "run", "b")
    config.seed = 1
    with pytest.raises(runs.RunError, match=r"config\.seed"):
        runs.open_run(tmp_path / "run", config)


def test_a_folder_without_a_run_is_named(tmp_path) -> None:
    with pytest.raises(runs.RunError, match=r"run\.json"):
        runs.read_record(tmp_path)


def test_metrics_are_read_up_to_a_line_that_was_cut_off(tmp_path) -> None:
    rows = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
    runs.write_metrics(tmp_path, rows)
    assert runs.read_metrics(tmp_path) == rows
    with (tmp_path / runs.METRICS).open("a") as file:
        file.write('{"epoch": 3, "lo')
    assert runs.read_metrics(tmp_path) == rows
