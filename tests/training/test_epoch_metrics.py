"""The best of some epochs, with and without a moving average, and how an epoch is printed."""

import pytest

from cervix_jax.training import epoch_metrics

ROWS = [
    {
        **{"epoch": epoch, "train_loss": 1.0, "train_accuracy": 0.25, "images_per_second": None},
        **{"validation_loss": loss, "validation_accuracy": 0.5},
        **{"ema_validation_loss": averaged, "ema_validation_accuracy": 0.75},
    }
    for epoch, loss, averaged in ((1, 0.9, 0.7), (2, 0.6, 0.8), (3, 0.8, 0.65))
]


def test_the_best_epoch_has_the_lowest_validation_loss() -> None:
    assert epoch_metrics.best(ROWS) == {"epoch": 2, "loss": 0.6, "accuracy": 0.5}
    assert epoch_metrics.best(ROWS, "ema_") == {"epoch": 3, "loss": 0.65, "accuracy": 0.75}


@pytest.mark.parametrize("loss", [float("nan"), None])
def test_an_epoch_whose_loss_is_no_number_is_never_the_best(loss) -> None:
    others = [{"epoch": 4, "validation_loss": loss}, {"epoch": 5}]
    assert epoch_metrics.best([*others, *ROWS, *others])["epoch"] == 2


def test_checkpoints_are_compared_by_validation_metrics_only() -> None:
    metrics = {"loss": 0.9, "accuracy": 0.5, "ema_loss": 0.7, "ema_accuracy": 0.75}
    assert epoch_metrics.validation(ROWS[0]) == metrics


def test_a_row_is_one_line() -> None:
    line = "epoch 1/3  train loss 1.0000 accuracy 0.250  validation loss 0.9000 accuracy 0.500  "
    assert epoch_metrics.format_row(ROWS[0], 3) == line + "averaged 0.7000 0.750  "
    without = {name: x for name, x in ROWS[0].items() if not name.startswith("ema_")}
    assert epoch_metrics.format_row(without | {"images_per_second": 12.34}, 3) == line + "12.3 images/s"


@pytest.mark.parametrize(
    ("losses", "patience", "over"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.6], 1, True),
        ([0.5, 0.6], 2, False),
        ([0.5, 0.6, 0.7], 2, True),
        ([0.5, 0.6, 0.4], 2, False),
        ([0.5] * 9, 0, False),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0], 3, True),  # all ten epochs
    ],
)
def test_training_ends_with_its_epochs_or_its_patience(losses, patience, over) -> None:
    rows = [{"epoch": i, "validation_loss": loss} for i, loss in enumerate(losses, start=1)]
    assert epoch_metrics.is_over(rows, 10, patience) == over
    averaged = [row | {"validation_loss": -row["epoch"], "ema_validation_loss": row["validation_loss"]} for row in rows]
    assert epoch_metrics.is_over(averaged, 10, patience) == over
