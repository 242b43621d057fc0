"""Runs whose photographs are cropped to located boxes: who is located by whom, and prediction sees the same."""

import shutil

import numpy as np
import pytest

from cervix_jax import config as options
from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.inference.predictor import Predictor
from cervix_jax.runs import RunError
from cervix_jax.training import cropping, loop
from cervix_jax.training.localiser import Localiser


@pytest.fixture
def config(tiny_config, localiser_run):
    """A classifier on the localiser's crops."""
    tiny_config.dataset.crop = str(localiser_run)
    tiny_config.epochs = 1
    return tiny_config


def test_validation_and_test_photographs_are_located_and_training_ones_cropped_as_drawn(config, localiser_run) -> None:
    data = load_dataset(config)
    localiser, boxes = cropping.crop_boxes(config, data)
    assert localiser == Localiser.restore(localiser_run)
    split = np.array(data.assignment.split)
    np.testing.assert_array_equal(boxes[split == "train", :4], data.boxes[split == "train"])
    assert not np.isnan(boxes[:, :4]).any()
    np.testing.assert_array_equal(np.isnan(boxes[:, 4]), split == "train")
    for i in np.flatnonzero(split != "train")[:3].tolist():
        found = localiser.locate_one(localiser.transform(_decoded(data.jpeg(i), localiser.transform.size)))
        np.testing.assert_allclose(boxes[i], (*found.box, found.confidence), atol=1e-5)


def test_boxes_that_are_damaged_are_found_again(tmp_path, capsys) -> None:
    path = tmp_path / "boxes.npz"
    np.savez(path, boxes=np.ones((3, 5), np.float32))
    assert (cropping._kept_boxes(path, 3) == 1).all()
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    assert np.isnan(cropping._kept_boxes(path, 3)).all()
    assert "locating the cervix again" in capsys.readouterr().err


def test_a_localiser_of_other_photographs_is_refused(localiser_run) -> None:
    localiser = Localiser.restore(localiser_run)
    localiser.check_data(localiser.record["data_fingerprint"])
    with pytest.raises(RunError, match="trained on other photographs"):
        localiser.check_data("other")


def test_with_a_localiser_for_each_fold_every_photograph_is_located_by_one_that_has_not_seen_its_box(
    config, localiser_run, tmp_path, monkeypatch
) -> None:
    for fold in range(5):
        shutil.copytree(localiser_run, tmp_path / f"fold{fold}")
    config.dataset.crop = str(tmp_path)
    data, asked = load_dataset(config), {}

    def restored(workdir):
        localiser = Localiser.restore(localiser_run)
        localiser.config.selection.fold = fold = int(workdir.name.removeprefix("fold"))
        localiser.record["epoch"] = -fold  # another digest, so that each has boxes of its own

        def locate(images):
            asked[fold] = len(images)
            return np.full((len(images), 4), fold / 10, np.float32), np.ones(len(images), np.float32)

        object.__setattr__(localiser, "locate", locate)
        return localiser

    monkeypatch.setattr(cropping, "Localiser", type("Restored", (), {"restore": staticmethod(restored)}))
    localiser, boxes = cropping.crop_boxes(config, data)
    folds = data.assignment.folds
    expected = np.where(folds >= 0, folds, config.selection.fold) / 10
    np.testing.assert_allclose(boxes[:, 0], expected, atol=1e-6)
    assert localiser.config.selection.fold == config.selection.fold
    asked.clear()
    cropping.crop_boxes(config, data)
    assert not asked  # located once, kept beside the data set


def test_a_run_carries_its_localiser_and_prediction_sees_what_training_saw(cropped_run) -> None:
    workdir, result = cropped_run
    predictor = Predictor.restore([workdir])
    validation = load_dataset(predictor.data_config).examples("validation")
    photographs = [predictor.read_stored(validation.jpeg(i)) for i in range(len(validation))]
    assert all(box is not None for photograph in photographs for box in photograph.located)
    reference = predictor.quality_reference.values[
        "confidence"
    ]  # of the photographs that the localiser did not learn from
    np.testing.assert_allclose(reference, np.sort([p.located[0].confidence for p in photographs]), atol=1e-5)
    probabilities = predictor.probabilities(photographs)
    loss = -np.log(probabilities[np.arange(len(validation)), validation.labels]).mean()
    assert loss == pytest.approx(result["best"]["loss"], abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"selection.fold": 2}, r"selection.fold=4, not 2: it has learned from boxes"),
        ({"selection.split": "random"}, r"selection.split='grouped', not 'random'"),
        ({"dataset.crop": "nowhere"}, "no work directory of a localiser"),
    ],
)
def test_a_localiser_that_has_seen_the_validation_boxes_is_refused(config, changes, reason) -> None:
    config.update_from_flattened_dict(changes)
    with pytest.raises(options.ConfigError, match=reason):
        cropping.crop_boxes(config, load_dataset(config))


def test_crops_as_drawn_train_but_do_not_predict(config, tmp_path) -> None:
    config.dataset.crop = "boxes"
    loop.train(config, tmp_path / "run")
    with pytest.raises(RunError, match="has no localiser"):
        Predictor.restore([tmp_path / "run"])


def _decoded(jpeg, size):
    from cervix_jax.images.decode import read_photograph

    return read_photograph(jpeg, min_size=size)
