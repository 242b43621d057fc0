"""External validation: labelled folders, what a run has seen or cannot read, and how far they are from training."""

import dataclasses
import io
import shutil

import numpy as np
import pytest
from PIL import Image, ImageFilter

from cervix_jax import runs
from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.images import synthetic
from cervix_jax.inference.calibration import Calibration
from cervix_jax.inference.decisions import Rules
from cervix_jax.inference.evaluation import UnlabelledError, calibrated_metrics, evaluate, operating_point, shift
from cervix_jax.inference.image_folder import NoPhotographsError
from cervix_jax.inference.labelled import folder_photographs, split_photographs
from cervix_jax.inference.predictor import Predictor
from cervix_jax.labels import CLASS_NAMES


@pytest.fixture
def predictor(run):
    return Predictor.restore([run[0]])


@pytest.fixture
def elsewhere(tmp_path):
    synthetic.write_folder(tmp_path / "elsewhere", seed=9, counts={"train": 20, "additional": 0, "test": 0})
    return tmp_path / "elsewhere/train"


def test_a_labelled_folder_is_measured_without_what_was_seen_or_cannot_be_read(predictor, elsewhere, manual_dir):
    seen = sorted((manual_dir / "train/Type_2").iterdir())
    shutil.copy(seen[0], elsewhere / "Type_3/copy.jpg")  # under another name and type
    Image.open(seen[1]).filter(ImageFilter.GaussianBlur(2)).save(elsewhere / "Type_3/blurred.jpg", quality=50)
    photograph = min((elsewhere / "Type_1").iterdir())
    Image.open(photograph).save(elsewhere / "Type_1/again.jpg", quality=60)
    (elsewhere / "Type_1/empty.jpg").write_bytes(b"")
    cases = folder_photographs(predictor, elsewhere)
    assert set(cases.seen) == {"Type_3/copy.jpg", "Type_3/blurred.jpg"}
    assert cases.skipped == ({"image_name": "Type_1/empty.jpg", "reason": "empty file"},)
    assert len(cases.photographs) == 21
    twice = [cases.ids.index(name) for name in (f"Type_1/{photograph.name}", "Type_1/again.jpg")]
    assert cases.groups[twice[0]] == cases.groups[twice[1]]
    assert len(set(cases.groups)) == 20
    assert [f"Type_{label + 1}" for label in cases.labels] == [name.split("/")[0] for name in cases.ids]
    found, probabilities = evaluate(predictor, cases)
    assert found["num_examples"] == len(probabilities) == 21
    assert found["seen"] == list(cases.seen)
    assert 0 <= found["shift"]["scores"]["log_density"]["auroc"] <= 1


def test_a_folder_of_seen_photographs_alone_measures_nothing(predictor, manual_dir, tmp_path):
    with pytest.raises(NoPhotographsError, match="cannot be read or was trained on"):
        folder_photographs(predictor, manual_dir / "train")
    with pytest.raises(NoPhotographsError, match="no pictures in folders Type_1, Type_2, Type_3"):
        folder_photographs(predictor, tmp_path)


def test_shift_is_none_for_the_same_and_plain_for_other_pictures(predictor, elsewhere):
    same = shift(predictor.quality_reference, folder_photographs(predictor, elsewhere).photographs)["scores"]
    flat = io.BytesIO()
    Image.new("RGB", (240, 320), "pink").save(flat, "JPEG")
    other = shift(predictor.quality_reference, [predictor.read(flat.getvalue())] * 3)
    assert 0.25 < same["sharpness"]["auroc"] < 0.75
    assert other["scores"]["sharpness"]["auroc"] == 1
    assert other["scores"]["sharpness"]["median"] == 0


def test_only_the_run_s_own_data_has_its_splits(predictor, run):
    data = load_dataset(predictor.data_config)
    predictor.check_data(data.fingerprint)
    with pytest.raises(runs.RunError, match="other photographs"):
        predictor.check_data("of another folder")
    cases = split_photographs(predictor, data.examples("validation"), "validation")
    assert cases.origin == "validation"
    train = split_photographs(predictor, data.examples("train"), "train")
    assert train.origin == "split"
    assert not {"seen", "shift"} & set(evaluate(predictor, train)[0])
    np.testing.assert_array_equal(cases.labels, data.examples("validation").labels)
    with pytest.raises(UnlabelledError, match="without labels"):
        evaluate(predictor, split_photographs(predictor, data.examples("test"), "test"))


def test_what_a_second_run_has_seen_counts_too_and_a_run_that_does_not_know_is_refused(run, elsewhere, tmp_path):
    predictor = Predictor.restore([run[0], shutil.copytree(run[0], tmp_path / "other")])
    first, second = predictor.members
    blind = dataclasses.replace(
        first, quality_reference=dataclasses.replace(first.quality_reference, seen=first.quality_reference.seen[:0])
    )
    photographs = [predictor.read(path) for path in sorted(elsewhere.rglob("*.jpg"))[:3]]
    of_training = load_dataset(predictor.data_config).examples("train")
    photographs.append(predictor.read(of_training.jpeg(0)))
    for members in ((first, blind), (blind, second)):
        seen, _ = dataclasses.replace(predictor, members=members).has_seen(photographs)
        assert seen.tolist() == [False, False, False, True]
    (run[0] / runs.QUALITY_REFERENCE).unlink()
    with pytest.raises(runs.RunError, match=r"quality.npz is missing; the command that trained it, given again"):
        folder_photographs(Predictor.restore([run[0]]), elsewhere)


def test_of_a_one_vs_rest_run_the_other_types_are_the_rest(predictor, elsewhere):
    two = dataclasses.replace(predictor, class_names=("rest", "Type_2"))
    cases = folder_photographs(two, elsewhere)
    assert [name.startswith("Type_2") for name in cases.ids] == (cases.labels == 1).tolist()


def planted(count: int, wrong: int):
    """Probabilities and labels of photographs of which the last `wrong` are taken for another type."""
    labels = np.arange(count) % 3
    called = labels.copy()
    called[count - wrong :] = np.where(labels[count - wrong :] == 0, 1, 0)
    return 0.05 + 0.85 * np.eye(3)[called], labels


def test_what_was_fitted_is_measured_on_the_other_half() -> None:
    probabilities, labels = planted(60, wrong=15)  # all errors in the second half
    fitting = np.arange(60) < 30
    calibration = Calibration(2.0, probabilities[~fitting], labels[~fitting], {"sets": {"0.9": "of the reference"}})
    found = calibrated_metrics(probabilities, labels, calibration, fitting)
    assert found["num_examples"] == 30
    assert found["before"]["loss"] == pytest.approx(-np.log(0.9) / 2 - np.log(0.05) / 2)
    assert found["sets"] == calibration.measured["sets"]
    rules = Rules(threshold=0.5)
    assert operating_point(probabilities, labels, CLASS_NAMES, rules, fitting)["unsafe_rate"] == 0
    other = operating_point(probabilities, labels, CLASS_NAMES, rules, ~fitting)
    assert other["unsafe_rate"] == pytest.approx(10 / 20)
    assert other["num_examples"] == 30
    assert operating_point(probabilities, labels, CLASS_NAMES, rules)["num_examples"] == 60


def test_robustness_is_part_of_an_evaluation_that_asks_for_it(predictor, elsewhere):
    cases = folder_photographs(predictor, elsewhere)
    few = dataclasses.replace(cases, photographs=cases.photographs[:2], labels=cases.labels[:2], groups=np.arange(2))
    assert 0 <= evaluate(predictor, few, robust=True)[0]["robustness"]["agreement"] <= 1


def test_of_several_processes_each_reads_its_own_photographs(predictor, tiny_config, monkeypatch):
    examples = load_dataset(tiny_config).examples("train")
    photographs = split_photographs(predictor, examples, "train").photographs
    (view,) = predictor.views
    whole = [row for batch in predictor._batches(view, photographs, 8) for row in batch["image"][batch["mask"]]]
    assert len(whole) == len(photographs) == len(examples)
    found = {}
    for process in range(3):
        monkeypatch.setattr("jax.process_count", lambda: 3)
        monkeypatch.setattr("jax.process_index", lambda process=process: process)
        mine = split_photographs(predictor, examples, "train").photographs
        batches = list(predictor._batches(view, mine, 8))
        assert len(batches) == -(-len(examples) // 6)  # as many steps everywhere: two rows each, of three processes
        own = [i for i in range(len(examples)) if i // 2 % 3 == process]
        assert mine._read.keys() >= set(own)
        assert len(mine._read) <= len(own) + 4  # beartype, which checks types in tests, looks at one here and there
        found |= dict(zip(own, (row for b in batches for row in b["image"][b["mask"]]), strict=True))
    np.testing.assert_array_equal([found[i] for i in range(len(examples))], whole)
