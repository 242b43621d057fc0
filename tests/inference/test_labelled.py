"""Labelled photographs: splits that are read lazily, and folders without what a run has seen or cannot read."""

import dataclasses
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.images import synthetic
from cervix_jax.inference.image_folder import NoPhotographsError
from cervix_jax.inference.labelled import folder_photographs, split_photographs
from cervix_jax.runs import RunError


@pytest.fixture
def elsewhere(tmp_path):
    synthetic.write_folder(tmp_path / "elsewhere", seed=9, counts={"train": 20, "additional": 0, "test": 0})
    return tmp_path / "elsewhere/train"


def test_what_was_seen_or_cannot_be_read_is_left_out(predictor, elsewhere, manual_dir):
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


def test_the_other_photographs_of_a_case_that_was_seen_are_left_out_too(predictor, elsewhere, manual_dir):
    shutil.copy(min((manual_dir / "train/Type_2").iterdir()), elsewhere / "Type_3/copy.jpg")
    (elsewhere / "Type_3/unreadable.jpg").write_bytes(b"none")
    first, second, *_ = sorted(path.relative_to(elsewhere).as_posix() for path in (elsewhere / "Type_1").iterdir())
    rows = [("Type_3/copy.jpg", "A"), (first, "A"), ("Type_3/unreadable.jpg", "B"), (second, "B")]
    (elsewhere / "cases.csv").write_text("image_name,case\n" + "".join(f"{name},{case}\n" for name, case in rows))
    cases = folder_photographs(predictor, elsewhere)
    assert {"Type_3/copy.jpg", first} <= set(cases.seen)
    assert second in cases.ids


def test_a_folder_of_seen_photographs_alone_is_refused(predictor, manual_dir, tmp_path):
    with pytest.raises(NoPhotographsError, match="all are unreadable, near-duplicates of training data, or of"):
        folder_photographs(predictor, manual_dir / "train")
    with pytest.raises(NoPhotographsError, match="no pictures in folders Type_1, Type_2, Type_3"):
        folder_photographs(predictor, tmp_path)


def test_a_type_of_which_nothing_can_be_read_is_named(predictor, elsewhere):
    for path in (elsewhere / "Type_2").iterdir():
        path.write_bytes(b"")
    with pytest.raises(NoPhotographsError, match=r"no picture of .*Type_2 can be read: empty file"):
        folder_photographs(predictor, elsewhere)
    shutil.rmtree(elsewhere / "Type_2")
    assert len(folder_photographs(predictor, elsewhere).ids) > 0  # a type that nobody has collected


def test_of_a_one_vs_rest_run_the_other_types_are_the_rest(predictor, elsewhere):
    (member,) = predictor.members
    member = dataclasses.replace(member, record=member.record | {"class_names": ["rest", "Type_2"]})
    cases = folder_photographs(dataclasses.replace(predictor, members=(member,)), elsewhere)
    assert [name.startswith("Type_2") for name in cases.ids] == (cases.labels == 1).tolist()


def test_examples_of_a_split_are_read_when_they_are_accessed_and_once(predictor):
    examples = load_dataset(predictor.data_config).examples("validation")
    accessed = []

    def jpeg(index):
        accessed.append(index)
        return examples.jpeg(index)

    recording = SimpleNamespace(labels=examples.labels, ids=examples.ids, groups=examples.groups, jpeg=jpeg)
    recording = type("Recording", (SimpleNamespace,), {"__len__": lambda self: len(examples)})(**vars(recording))
    data = SimpleNamespace(
        fingerprint=predictor.members[0].record["data_fingerprint"], examples=lambda split: recording
    )
    cases = split_photographs(predictor, lambda config: data, "validation")
    assert (cases.origin, len(cases.photographs)) == ("validation", len(examples))
    assert len(accessed) <= 3  # by the type checker of the tests, which looks at one here and there
    np.testing.assert_array_equal(cases.photographs[3].images[0], examples.image(3))
    assert cases.photographs[2:4][1] is cases.photographs[3]
    assert len(list(cases.photographs)) == len(examples)
    assert sorted(accessed) == list(range(len(examples)))
    assert split_photographs(predictor, lambda config: data, "test").origin == "split"


def test_of_a_cross_validation_each_photograph_validates_once_by_the_run_that_held_it_out(cross_validated, held_out):
    assert len(set(held_out.ids)) == len(held_out.ids) == len(held_out.photographs) == 60
    by_fold = {member.fold: member for member in cross_validated.members}
    probabilities = held_out.probabilities(cross_validated)
    for fold, member in by_fold.items():
        data = load_dataset(member.config)
        rows = np.flatnonzero(held_out.folds == fold).tolist()
        assert [held_out.ids[i] for i in rows] == list(data.examples("validation").ids)
        assert not {held_out.ids[i] for i in rows} & set(data.examples("train").ids)
        alone = dataclasses.replace(cross_validated, members=(member,))
        expected = alone.probabilities([held_out.photographs[i] for i in rows])
        np.testing.assert_allclose(probabilities[rows], expected, atol=1e-6)
        mean = cross_validated.probabilities([held_out.photographs[i] for i in rows])
        assert np.abs(mean - expected).max() > 1e-3


def test_a_cross_validation_has_no_training_photographs_and_the_same_test_ones(cross_validated):
    with pytest.raises(RunError, match="each of its photographs validates once"):
        split_photographs(cross_validated, load_dataset, "train")
    test = split_photographs(cross_validated, load_dataset, "test")
    assert (len(test.ids), test.folds) == (7, None)
