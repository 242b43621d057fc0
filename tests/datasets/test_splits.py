"""Selections: who validates, who trains, and that nothing fitted has seen the validation fold."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cervix_jax.config import get_config
from cervix_jax.datasets.splits import (
    ADDITIONAL,
    INITIAL,
    TEST,
    Manifest,
    SplitConfig,
    assign_splits,
    random_folds,
    stratified_folds,
)


@given(
    counts=st.lists(st.integers(5, 60), min_size=3, max_size=3), num_folds=st.integers(2, 7), prefix=st.text(max_size=3)
)
def test_folds_are_stratified_repeatable_and_of_one_size(counts, num_folds, prefix):
    names = [f"{prefix}{label}/{i}" for label, count in enumerate(counts) for i in range(count)]
    labels = np.repeat(np.arange(3), counts)
    folds = stratified_folds(names, labels, num_folds)
    backwards = stratified_folds(names[::-1], labels[::-1], num_folds)
    np.testing.assert_array_equal(folds, backwards[::-1])
    sizes = np.bincount(folds, minlength=num_folds)
    assert sizes.max() - sizes.min() <= 1
    for label in range(3):
        within = np.bincount(folds[labels == label], minlength=num_folds)
        assert within.max() - within.min() <= 1


def test_kaggle_s_counts_give_the_report_s_296_validation_images():
    labels = np.repeat(np.arange(3), (250, 781, 450))
    names = [f"{label}/{i}" for i, label in enumerate(labels)]
    assert (stratified_folds(names, labels, 5) == 4).sum() == 296
    assert (random_folds(names, 5) == 4).sum() == 296


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), min_size=10, max_size=120), st.integers(2, 5))
def test_groups_never_straddle_folds(rows, num_folds):
    labels, groups = np.array(rows).T
    folds = stratified_folds([str(i) for i in range(len(rows))], labels, num_folds, groups)
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    largest = np.bincount(groups).max()
    for label in range(3):
        within = np.bincount(folds[labels == label], minlength=num_folds)
        assert within.max() - within.min() <= 2 * largest


def make_manifest(seed=0, initial=60, additional=40, test=6):
    """Random scores; every third additional photograph is of another distribution."""
    rng = np.random.default_rng(seed)
    n = initial + additional + test
    histograms = rng.normal(size=(n, 8)).astype(np.float32)
    histograms[initial : initial + additional : 3] += 4
    labels = rng.integers(0, 3, n)
    labels[initial + additional :] = -1
    return Manifest(
        names=[f"{i}.jpg" for i in range(n)],
        source=[INITIAL] * initial + [ADDITIONAL] * additional + [TEST] * test,
        labels=labels,
        folder_labels=np.where(np.arange(n) == 0, (labels + 1) % 3, labels),
        histograms=histograms,
        sharpness=rng.uniform(10, 100, n).astype(np.float32),
        groups=np.arange(n),
        annotators=[],
        boxes=np.zeros((n, 0, 4), np.float32),
    )


options = st.builds(
    SplitConfig,
    folds=st.just(5),
    fold=st.integers(0, 4),
    split=st.sampled_from(["grouped", "random"]),
    labels=st.sampled_from(["corrected", "folder"]),
    additional=st.sampled_from(["cleaned", "none", "all"]),
    keep_fraction=st.floats(0, 1),
    sharpness=st.floats(0.1, 3),
    fitted_on=st.sampled_from(["training", "initial"]),
)
TYPES = ("Type_1", "Type_2", "Type_3")


@given(options, st.integers(0, 2))
def test_one_type_against_the_rest_changes_labels_alone(choice, label):
    manifest = make_manifest()
    whole, binary = (
        assign_splits(manifest, choice),
        assign_splits(manifest, dataclasses.replace(choice, one_vs_rest=TYPES[label])),
    )
    assert (whole.class_names, binary.class_names) == (TYPES, ("rest", TYPES[label]))
    assert (whole.split, whole.reasons) == (binary.split, binary.reasons)
    np.testing.assert_array_equal(binary.labels == 1, whole.labels == label)
    np.testing.assert_array_equal(binary.labels == -1, whole.labels == -1)


@given(options, st.integers(0, 20))
def test_whatever_is_selected_validation_is_one_fold_of_initial_photographs(choice, seed):
    manifest = make_manifest(seed)
    assignment = assign_splits(manifest, choice)
    source, split = np.array(manifest.source), np.array(assignment.split)
    assert set(source[split == "validation"]) == {INITIAL}
    np.testing.assert_array_equal(split == "validation", assignment.folds == choice.fold)
    assert set(split[source == INITIAL]) == {"train", "validation"}
    assert set(split[source == TEST]) == {"test"}
    assert all((reason != "") == (s == "rejected") for reason, s in zip(assignment.reasons, split, strict=True))


def test_photographs_like_an_initial_one_do_not_test() -> None:
    manifest = make_manifest()
    manifest.groups[-1] = manifest.groups[0]
    assignment = assign_splits(manifest, SplitConfig())
    assert (assignment.split[-1], assignment.reasons[-1]) == ("rejected", "near_duplicate")
    assert assignment.split[-2] == "test"


def test_data_sets_are_built_with_the_defaults_of_the_options():
    options = dict(get_config().selection)
    assert options.pop("exclude") == ""  # a file; here the names in it
    assert SplitConfig(**options) == SplitConfig()


def test_near_duplicates_share_a_fold_unless_folds_are_random():
    manifest = dataclasses.replace(make_manifest(), groups=np.arange(106) // 6)
    initial = manifest.of(INITIAL)

    def folds_of_groups(split):
        folds = assign_splits(manifest, SplitConfig(split=split)).folds[initial].reshape(-1, 6)
        return {len(set(group)) for group in folds.tolist()}

    assert folds_of_groups("grouped") == {1}
    assert max(folds_of_groups("random")) > 1


def test_what_is_fitted_does_not_see_the_validation_fold():
    """Scores and thresholds stay the same whatever the validation photographs look like, unless the report's way."""
    manifest = make_manifest()
    before = assign_splits(manifest, SplitConfig())
    held_out = before.folds == 4
    changed = dataclasses.replace(
        manifest,
        histograms=np.where(held_out[:, None], 100, manifest.histograms).astype(np.float32),
        sharpness=np.where(held_out, 0, manifest.sharpness).astype(np.float32),
    )
    after = assign_splits(changed, SplitConfig())
    assert after.split == before.split
    assert after.least_sharp == before.least_sharp
    np.testing.assert_allclose(after.log_density[~held_out], before.log_density[~held_out])
    leaky = assign_splits(changed, SplitConfig(fitted_on="initial"))
    assert leaky.least_sharp == 0
    assert not np.allclose(leaky.log_density[~held_out], before.log_density[~held_out])


def test_cleaning_keeps_the_closest_that_are_sharp():
    manifest = make_manifest()
    assignment = assign_splits(manifest, SplitConfig(keep_fraction=0.5))
    additional = manifest.of(ADDITIONAL)
    kept = additional & (np.array(assignment.split) == "train")
    assert manifest.sharpness[kept].min() >= assignment.least_sharp
    median = np.median(assignment.log_density[additional])
    assert (assignment.log_density[kept] >= median).all()
    assert set(np.array(assignment.reasons)[additional & ~kept]) <= {"blurred", "unlike the initial photographs"}
    trained = manifest.of(INITIAL) & (assignment.folds != 4)
    assert assignment.least_sharp == manifest.sharpness[trained].min()


@pytest.mark.parametrize(("additional", "expected"), [("none", 0), ("all", 38)])
def test_duplicates_of_initial_and_test_photographs_are_never_trained_on(additional, expected):
    manifest = make_manifest()
    manifest.groups[[60, 61]] = manifest.groups[[3, -1]]
    assignment = assign_splits(manifest, SplitConfig(additional=additional))
    assert assignment.reasons[60] == assignment.reasons[61] == "near_duplicate"
    split = np.array(assignment.split)
    assert (split[manifest.of(ADDITIONAL)] == "train").sum() == expected


def test_excluded_photographs_are_not_trained_on_but_validate():
    manifest = make_manifest()
    plain = assign_splits(manifest, SplitConfig(additional="all"))
    rows = [plain.split.index(split) for split in ("train", "validation", "test")]
    names = [manifest.names[i] for i in rows]
    changed = assign_splits(manifest, SplitConfig(additional="all", exclude=names))
    assert [changed.split[i] for i in rows] == ["rejected", "validation", "test"]
    assert changed.reasons[rows[0]] == "excluded"
    assert sum(a != b for a, b in zip(plain.split, changed.split, strict=True)) == 1


def test_labels_are_the_corrected_ones_or_the_folder_s():
    manifest = make_manifest()
    assert assign_splits(manifest, SplitConfig()).labels[0] == manifest.labels[0]
    assert (
        assign_splits(manifest, SplitConfig(labels="folder")).labels[0]
        == manifest.folder_labels[0]
        != manifest.labels[0]
    )
