"""Run record and metrics of a work directory; `training/test_loop.py` has those of real runs."""

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
    runs.write_record(tmp_path, config={}, class_names=["a"], data_fingerprint="x")
    runs.write_record(tmp_path, data_fingerprint="y")
    assert runs.read_record(tmp_path) == {"config": {}, "class_names": ["a"], "data_fingerprint": "y"}
    runs.check_data(tmp_path, "y")
    with pytest.raises(runs.RunError, match="other photographs"):
        runs.check_data(tmp_path, "x")


def test_without_a_record_there_is_no_run(tmp_path) -> None:
    with pytest.raises(runs.RunError, match="holds no run"):
        runs.read_record(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"config": 3}', "\x00", "[" * 99999, '{"config": {"seed": [[1]]}}']
)
def test_a_damaged_record_is_named(tmp_path, content) -> None:
    (tmp_path / runs.RECORD).write_text(content)
    with pytest.raises(runs.RunError, match=r"run\.json is damaged; remove it and rerun"):
        runs.read_record(tmp_path)


ROWS = [{"epoch": 1, "step": 3, "loss": 0.1 + 0.2}, {"epoch": 2, "step": 6, "loss": 1e-30}]


@pytest.mark.parametrize(
    "damage",
    [
        '{"epoch": 1, "st',
        "\x00\xff",
        "[]",
        '{"epoch": null, "step": 1}',
        '"epoch"',
        '{"epoch": 1, "loss": []}',
        "[" * 9**5,
    ],
)
def test_a_damaged_line_of_the_metrics_hides_no_other_and_is_kept_aside(tmp_path, damage, capsys) -> None:
    assert runs.read_metrics(tmp_path) == []
    runs.write_metrics(tmp_path, ROWS)
    assert runs.read_metrics(tmp_path) == ROWS
    path = tmp_path / runs.METRICS
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{damage}\n{second}\n")
    assert runs.read_metrics(tmp_path) == ROWS
    assert not (tmp_path / runs.DAMAGED_METRICS).exists()  # reading changes nothing
    runs.write_metrics(tmp_path, ROWS)
    assert runs.read_metrics(tmp_path) == ROWS
    assert (tmp_path / runs.DAMAGED_METRICS).read_text() == f"{damage}\n"
    assert "1 line(s) of" in capsys.readouterr().err


def test_the_runs_of_a_cross_validation_are_in_order_of_fold_and_seed(tmp_path) -> None:
    assert runs.member_workdirs(tmp_path) == [tmp_path]
    names = ["fold0", "fold0_seed1", "fold2", "fold10", "fold10_seed2", "folder", "fold1_old"]
    for name in reversed(names):
        (tmp_path / name).mkdir()
        (tmp_path / name / runs.RECORD).touch()
    (tmp_path / "fold3").mkdir()  # no run yet
    assert [path.name for path in runs.member_workdirs(tmp_path)] == names[:5]
    assert runs.fold_workdir(tmp_path, 10, 2) == tmp_path / "fold10_seed2"
    (tmp_path / runs.RECORD).touch()
    assert runs.member_workdirs(tmp_path) == [tmp_path]


@pytest.mark.parametrize("name", runs.DIGESTS)
def test_a_run_resumes_with_the_same_examples_labels_and_localiser_only(tmp_path, name) -> None:
    runs.check_digests(tmp_path, {name: "a"})
    runs.open_run(tmp_path, options.get_config())
    runs.check_digests(tmp_path, {name: "a"})  # of an older version, which has not recorded it
    runs.write_record(tmp_path, **{name: "a"})
    runs.check_digests(tmp_path, {name: "a"})
    for other in ("b", None):
        with pytest.raises(runs.RunError, match="give another --workdir"):
            runs.check_digests(tmp_path, {name: other})
