"""Training as a whole: what a run writes, that it resumes with the same metrics, and when it stops."""

import json
import signal

import numpy as np
import pytest

from cervix_jax import runs
from cervix_jax.datasets.dataset import PreparedDataset, load_dataset
from cervix_jax.datasets.pipeline import DatasetError, Examples
from cervix_jax.datasets.quality import QualityReference
from cervix_jax.errors import Interrupted
from cervix_jax.inference.predictor import Predictor
from cervix_jax.lock import LockedError, exclusive
from cervix_jax.training import loop
from cervix_jax.training.checkpoints import CheckpointError
from cervix_jax.training.metrics import classification_metrics


def metrics_of(workdir):
    """All metrics of a run but times, which alone may depend on interruptions."""
    clock = ("images_per_second", "validation_seconds")
    return [{key: value for key, value in row.items() if key not in clock} for row in runs.read_metrics(workdir)]


def test_a_run_leaves_its_record_metrics_and_best_checkpoint(run, tiny_config):
    workdir, result = run
    rows = runs.read_metrics(workdir)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["step"] for row in rows] == [3, 6]
    best = min(rows, key=lambda row: row["validation_loss"])
    assert result["best"] == {
        "epoch": best["epoch"],
        "loss": best["validation_loss"],
        "accuracy": best["validation_accuracy"],
    }
    record = runs.read_record(workdir)
    assert record["class_names"] == ["Type_1", "Type_2", "Type_3"]
    assert record["preprocessing"] == "mean_image"
    assert record["config"]["batch_size"] == tiny_config.batch_size
    assert "jax" in record["versions"]
    assert list((workdir / "tensorboard").iterdir())


def test_the_restored_best_checkpoint_has_the_logged_validation_loss(run):
    workdir, result = run
    predictor = Predictor.restore([workdir])
    examples = load_dataset(predictor.config).examples("validation")
    photographs = [predictor.read(examples.jpeg(i)) for i in range(len(examples))]
    assert predictor.members[0].record["epoch"] == result["best"]["epoch"]
    for batch_size in (12, 5, 1):
        probabilities = predictor.probabilities(photographs, batch_size)
        metrics = classification_metrics(probabilities, examples.labels, predictor.class_names)
        assert metrics["loss"] == pytest.approx(result["best"]["loss"], abs=1e-6)
        assert metrics["num_examples"] == 12


def test_more_epochs_continue_a_finished_run(run, tiny_config, tmp_path, capsys):
    workdir, _ = run
    before = metrics_of(workdir)
    assert loop.train(tiny_config, workdir)["epochs"] == 2
    assert "nothing to do" in capsys.readouterr().err
    (workdir / runs.QUALITY_REFERENCE).write_bytes(b"damaged")
    loop.train(tiny_config, workdir)
    assert QualityReference.load(workdir / runs.QUALITY_REFERENCE) is not None  # written again
    tiny_config.epochs = 3
    loop.train(tiny_config, workdir)
    loop.train(tiny_config, tmp_path / "whole")
    assert metrics_of(workdir)[:2] == before
    assert metrics_of(workdir) == metrics_of(tmp_path / "whole")


def train_with_interruption(config, workdir, after_step):
    """Sends SIGINT after a step, counted from 1, and resumes."""
    steps = []

    def interrupt(step):
        steps.append(step)
        if step == after_step:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="rerun the same command to resume"):
        loop.train(config, workdir, on_step=interrupt)
    assert steps == list(range(1, after_step + 1))
    loop.train(config, workdir)


@pytest.mark.parametrize("after_step", [1, 3])  # within an epoch, and at its end
def test_an_interrupted_run_ends_with_the_same_metrics(run, tiny_config, tmp_path, after_step):
    workdir, _ = run
    train_with_interruption(tiny_config, tmp_path / "cut", after_step)
    assert metrics_of(tmp_path / "cut") == metrics_of(workdir)


def test_the_moving_average_is_validated_kept_and_resumed(run, tiny_config, tmp_path):
    tiny_config.optimizer.ema_decay = 0.5
    tiny_config.model.widths, tiny_config.model.blocks = (4,), (1,)  # compiles faster
    whole = loop.train(tiny_config, tmp_path / "whole")
    rows = runs.read_metrics(tmp_path / "whole")
    assert [row["ema_validation_loss"] for row in rows] != [row["validation_loss"] for row in rows]
    assert whole["best_ema"]["loss"] == min(row["ema_validation_loss"] for row in rows)
    examples = load_dataset(tiny_config).examples("validation")
    for weights, expected in (("ema", whole["best_ema"]), ("raw", whole["best"]), (None, whole["best_ema"])):
        predictor = Predictor.restore([tmp_path / "whole"], weights=weights)
        photographs = [predictor.read(examples.jpeg(i)) for i in range(len(examples))]
        metrics = classification_metrics(predictor.probabilities(photographs), examples.labels, predictor.class_names)
        assert metrics["loss"] == pytest.approx(expected["loss"], abs=1e-6)
        assert predictor.members[0].validation_loss == expected["loss"]
    with pytest.raises(CheckpointError, match="kept no moving average"):
        Predictor.restore([run[0]], weights="ema")
    train_with_interruption(tiny_config, tmp_path / "cut", 4)
    assert metrics_of(tmp_path / "cut") == metrics_of(tmp_path / "whole")


def test_metrics_of_epochs_after_the_checkpoint_are_not_kept_twice(run, tiny_config):
    workdir, _ = run
    tiny_config.epochs = 3
    rows = runs.read_metrics(workdir)
    # As after a crash between writing the metrics of epoch 3 and its checkpoint, in the middle of a line.
    lost = json.dumps(rows[-1] | {"epoch": 3, "step": 9, "validation_loss": -1.0})
    path = workdir / runs.METRICS
    path.write_text(path.read_text() + lost + "\n" + lost[:20])
    assert loop.train(tiny_config, workdir)["best"]["loss"] > 0
    assert [row["epoch"] for row in runs.read_metrics(workdir)] == [1, 2, 3]


def test_a_work_directory_of_another_config_is_refused_with_the_difference(run, tiny_config):
    workdir, _ = run
    tiny_config.optimizer.l2 = 0.25
    with pytest.raises(runs.RunError, match=r"config.optimizer.l2: the work directory has 0.0005, this command 0.25"):
        loop.train(tiny_config, workdir)


def test_a_run_whose_excluded_photographs_change_is_not_resumed(run, tiny_config, tmp_path):
    workdir, _ = run
    names = load_dataset(tiny_config).examples("train").ids
    tiny_config.selection.exclude = str(tmp_path / "exclude.csv")
    (tmp_path / "exclude.csv").write_text("image_name\nno such photograph\n")
    runs.write_record(workdir, config=tiny_config.to_dict())  # as if it had been started with this list
    (tmp_path / "exclude.csv").write_text(f"image_name\n{names[0]}\n")
    with pytest.raises(runs.RunError, match=r"on other photographs than config\.selection chooses now"):
        loop.train(tiny_config, workdir)


def test_a_run_on_other_photographs_is_not_resumed(run, tiny_config):
    workdir, _ = run
    runs.write_record(workdir, data_fingerprint="of other photographs")
    with pytest.raises(runs.RunError, match="other photographs"):
        loop.train(tiny_config, workdir)


class NanExamples(Examples):
    def __getitem__(self, index):
        return super().__getitem__(index) | {"image": np.full((32, 24, 3), np.nan, np.float32)}


class NanDataset(PreparedDataset):
    def examples(self, split, **options):
        examples = super().examples(split, **options)
        if split == "train":
            examples.__class__ = NanExamples
        return examples


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(run, tiny_config):
    workdir, _ = run
    tiny_config.epochs = 3
    data = load_dataset(tiny_config)
    with pytest.raises(loop.NonFiniteError, match=r"(training loss|gradient norm) is not finite at step 7"):
        loop.train(tiny_config, workdir, NanDataset(**vars(data)))
    assert [row["epoch"] for row in runs.read_metrics(workdir)] == [1, 2]
    assert loop.train(tiny_config, workdir)["epochs"] == 3


def test_training_ends_when_its_patience_does_and_a_rerun_changes_nothing(tiny_config, tmp_path, capsys):
    tiny_config.optimizer.learning_rate, tiny_config.optimizer.l2 = 1e-30, 0.0  # nothing is learnt
    tiny_config.model.batch_norm = False  # whose statistics would change
    tiny_config.epochs, tiny_config.patience = 9, 1
    result = loop.train(tiny_config, tmp_path / "run")
    assert (result["epochs"], result["best"]["epoch"]) == (2, 1)
    assert "no lower validation loss for 1 epochs" in capsys.readouterr().err
    assert loop.train(tiny_config, tmp_path / "run") == result
    tiny_config.patience = 2
    assert loop.train(tiny_config, tmp_path / "run")["epochs"] == 3


def test_a_second_trainer_of_the_same_run_is_refused(run, tiny_config):
    with exclusive(run[0] / runs.LOCK, "it"), pytest.raises(LockedError, match="is in use by process"):
        loop.train(tiny_config, run[0])


def test_a_type_without_training_photographs_is_refused(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(Examples, "class_priors", lambda self: [0.5, 0.0, 0.5])
    with pytest.raises(DatasetError, match="no training photograph of Type_2"):
        loop.train(tiny_config, tmp_path / "run")
