"""What is kept of a system comes back as it was, and is all that its runs say."""

import json

import numpy as np

from cervix_jax.experiments.runner import VALIDATION, Run
from cervix_jax.experiments.system_results import SystemResult, scores
from tests.experiments.fake_results import COUNT, LABELS, make_result, make_table, random_probabilities


def write_run(workdir, table, fold: int, losses, *, seed: int = 0, ema: bool = False, system: str = "report") -> Run:
    """A work directory with what is read of one."""
    folder = f"runs/{system}-fold{fold}-seed{seed}"
    (workdir / folder).mkdir(parents=True)
    table.take([name for name, f in zip(table.ids, table.folds, strict=True) if f == fold]).write(
        workdir / folder / VALIDATION
    )
    prefix = "ema_validation" if ema else "validation"
    rows = [
        {"epoch": epoch, "train_accuracy": epoch / 10, "validation_loss": 9.0, "validation_accuracy": 0.0}
        | {f"{prefix}_loss": loss, f"{prefix}_accuracy": loss / 10}
        for epoch, loss in enumerate(losses, start=1)
    ]
    (workdir / folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {"dataset": {"name": "cervix/cleaned", "image_size": [32, 24]}, "batch_size": 16}
    config["optimizer"] = {"ema_decay": 0.9}
    record = {"config": config, "versions": {"jax": "0.12"}, "revision": "0123456789abcdef-dirty"}
    (workdir / folder / "run.json").write_text(json.dumps(record))
    return Run(system, seed, fold, folder)


def test_runs_are_brought_together_by_seed(tmp_path) -> None:
    tables = [make_table(random_probabilities(seed)) for seed in range(2)]
    runs = [
        write_run(tmp_path, tables[seed], fold, [1.0, 0.8, 0.9], seed=seed, ema=fold == 2)
        for seed in range(2)
        for fold in (0, 2)
    ]
    runs += [Run("report", 1, 1, "runs/failed", reason="no weights")]
    result = SystemResult.collect("report", runs, tmp_path)
    assert result.reason == "no weights"
    assert [(run.fold, run.seed, run.epoch, run.loss, run.train_accuracy) for run in result.runs] == [
        (0, 0, 2, 0.8, 0.2),
        (2, 0, 2, 0.8, 0.2),
        (0, 1, 2, 0.8, 0.2),
        (2, 1, 2, 0.8, 0.2),
    ]
    assert result.conditions["revision"] == "0123456789ab-dirty"
    for seed, table in result.tables.items():
        assert set(table.folds) == {0, 2}
        np.testing.assert_allclose(table.probabilities, tables[seed].take(table.ids).probabilities, atol=1e-8)
    result.write(tmp_path / "kept")
    back = SystemResult.read(tmp_path / "kept", "report")
    assert back is not None
    assert (back.runs, back.conditions, back.reason) == (result.runs, result.conditions, result.reason)
    assert {s: table.ids for s, table in back.tables.items()} == {s: table.ids for s, table in result.tables.items()}
    assert SystemResult.read(tmp_path / "kept", "initial") is None


def test_a_system_that_is_reported_at_its_last_epoch_is(tmp_path) -> None:
    table = make_table(random_probabilities(0))
    (run,) = SystemResult.collect(
        "overfitted", [write_run(tmp_path, table, 0, [1.0, 0.8, 7.0], system="overfitted")], tmp_path
    ).runs
    assert (run.epoch, run.loss, run.accuracy) == (3, 7.0, 0.7)


def test_scores_are_means_over_seeds_whatever_the_order_of_rows() -> None:
    members = [random_probabilities(seed) for seed in range(2)]
    first, second = map(make_table, members)
    shuffled = second.take(np.random.default_rng(0).permutation(second.ids).tolist())
    _, values = scores([first, shuffled])
    true = np.stack([p[np.arange(COUNT), LABELS] for p in members])
    np.testing.assert_allclose(values[:, 0], -np.log(true).mean(axis=0))
    np.testing.assert_allclose(values[:, 1], np.mean([p.argmax(axis=1) == LABELS for p in members], axis=0))


def test_losses_are_by_fold() -> None:
    result = make_result("report", make_table(random_probabilities(0)), losses=[1.0, 2.0, 3.0])
    assert result.losses(0) == {0: 1.0, 1: 2.0, 2: 3.0}
