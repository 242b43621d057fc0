"""Ensembles of real runs against their members, what belongs together, and what tells predictors apart."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from cervix_jax import runs
from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.images import synthetic
from cervix_jax.inference.ensemble import EnsembleError
from cervix_jax.inference.photograph import Photograph
from cervix_jax.inference.predictor import PredictionError, Predictor
from cervix_jax.training import loop
from tests.conftest import make_tiny_config
from tests.explainers.random_predictors import make_member, make_predictor, random_pictures


@pytest.fixture(scope="module")
def photographs(manual_dir):
    return sorted((manual_dir / "test").iterdir())


def probabilities(predictor, paths):
    return predictor.probabilities([predictor.read(path) for path in paths])


@pytest.fixture(scope="module")
def others(manual_dir, data_dir, tmp_path_factory):
    """Runs of one epoch: of another seed and image size, and of another fold."""
    folder = tmp_path_factory.mktemp("others")
    for name, changes in {
        "larger": {"seed": 1, "dataset.image_size": (40, 32)},
        "fold": {"selection.fold": 0},
    }.items():
        config = make_tiny_config(manual_dir, data_dir)
        config.update_from_flattened_dict({"epochs": 1} | changes)
        loop.train(config, folder / name)
    return folder


def test_an_ensemble_is_the_mean_of_its_members_each_at_its_own_size(run, others, photographs) -> None:
    both = Predictor.restore([run[0], others / "larger"], rule="mean")
    assert [seen.transform.size for seen in both.network_inputs] == [(32, 24), (40, 32)]
    first, second = Predictor.restore([run[0]]), Predictor.restore([others / "larger"])
    single = np.stack([probabilities(predictor, photographs) for predictor in (first, second)])
    assert np.abs(single[0] - single[1]).max() > 1e-3
    np.testing.assert_allclose(probabilities(both, photographs), single.mean(axis=0), atol=1e-12)
    geometric = np.sqrt(single[0] * single[1])
    geometric /= geometric.sum(axis=1, keepdims=True)
    found = probabilities(dataclasses.replace(both, rule="geometric"), photographs)
    np.testing.assert_allclose(found, geometric, atol=1e-12)
    losses = [0.65, 0.85]
    members = tuple(dataclasses.replace(m, validation_loss=x) for m, x in zip(both.members, losses, strict=True))
    found = probabilities(dataclasses.replace(both, members=members, rule="report"), photographs)
    np.testing.assert_allclose(found, 0.75 * single[0] + 0.25 * single[1], atol=1e-12)


def test_equal_weights_where_the_report_s_rule_gives_none_are_logged(run, photographs, capsys) -> None:
    twin = shutil.copytree(run[0], run[0].with_name("twin"))
    both = Predictor.restore([run[0], twin])
    losses = [member.validation_loss for member in both.members]
    assert ("equal weights" in capsys.readouterr().err) == (min(losses) >= 0.95)
    alone = probabilities(dataclasses.replace(both, members=both.members[:1]), photographs)
    np.testing.assert_allclose(probabilities(both, photographs), alone, atol=1e-12)


def test_three_one_vs_rest_runs_are_one_predictor_of_types(manual_dir, data_dir) -> None:
    options = {"dataset__name": "cervix/initial", "dataset__manual_dir": str(manual_dir)}
    options |= {"dataset__data_dir": str(data_dir), "selection__one_vs_rest": "Type_3"}
    names = ("Type_3", "Type_1", "Type_2")  # whatever their order
    members = [make_member(seed, class_names=("rest", name), **options) for seed, name in enumerate(names)]
    predictor = make_predictor(*members)
    assert predictor.class_names == ("Type_1", "Type_2", "Type_3")
    read = [Photograph((image,), b"", (24, 16), (None,)) for image in random_pictures(0, n=4)]
    own = [make_predictor(member).probabilities(read)[:, 1] for member in members]
    expected = np.stack([own[1], own[2], own[0]], axis=1)
    np.testing.assert_allclose(predictor.probabilities(read), expected / expected.sum(1, keepdims=True), rtol=1e-9)
    assert set(load_dataset(predictor.data_config).examples("validation").labels) == {0, 1, 2}


def test_runs_that_hold_out_other_photographs_are_refused(run, others) -> None:
    with pytest.raises(
        EnsembleError, match=r"fold differs, 4 in .*, 0 in .* missing: 1, 2, 3. python -m cervix_jax.cross"
    ):
        Predictor.restore([run[0], others / "fold"])


def test_a_cross_validation_is_the_mean_of_its_folds(folds, cross_validated, photographs) -> None:
    assert cross_validated.rule == "mean"
    assert cross_validated.name == "cv"
    single = [probabilities(Predictor.restore([folds.workdir / f"fold{i}"]), photographs) for i in range(3)]
    np.testing.assert_allclose(probabilities(cross_validated, photographs), np.mean(single, axis=0), atol=1e-6)
    with pytest.raises(EnsembleError, match="missing: 1"):
        Predictor.restore([folds.workdir / "fold0", folds.workdir / "fold2"])


def test_probabilities_that_are_not_finite_become_no_decision(predictor, validation) -> None:
    (member,) = predictor.members
    damaged = jax.tree.map(lambda x: x * np.nan, member.variables)
    member = dataclasses.replace(member, variables=damaged)
    with pytest.raises(PredictionError, match="run gives probabilities that are not numbers"):
        dataclasses.replace(predictor, members=(member,)).probabilities(validation.photographs[:2])


def test_a_run_is_no_ensemble_with_itself(run, tmp_path) -> None:
    link = tmp_path / "link"
    link.symlink_to(run[0])
    with pytest.raises(EnsembleError, match="is given twice"):
        Predictor.restore([run[0], link])


def test_identity_follows_what_changes_probabilities_and_nothing_else(run, tmp_path) -> None:
    one = Predictor.restore([run[0]])
    moved = shutil.copytree(run[0], tmp_path / "moved")
    assert Predictor.restore([moved]).identity == one.identity
    assert dataclasses.replace(one, rule="mean").identity == one.identity  # of one run there is nothing to average
    both = Predictor.restore([run[0], moved])
    assert dataclasses.replace(both, members=both.members[::-1]).identity == both.identity
    predictors = [
        one,
        Predictor.restore([run[0]], augmentations=["flips"]),
        both,
        dataclasses.replace(both, rule="mean"),
    ]
    assert len({predictor.identity for predictor in predictors}) == 4


def test_a_second_run_has_seen_photographs_too_and_a_run_that_does_not_know_is_refused(run, manual_dir, tmp_path):
    synthetic.write_folder(tmp_path / "new", seed=9, counts={"train": 3, "additional": 0, "test": 0})
    predictor = Predictor.restore([run[0], shutil.copytree(run[0], tmp_path / "other")])
    first, second = predictor.members
    reference = dataclasses.replace(first.quality_reference, seen=first.quality_reference.seen[:0])
    blind = dataclasses.replace(first, quality_reference=reference)
    paths = [*sorted((tmp_path / "new").rglob("*.jpg"))[:3], min((manual_dir / "train/Type_2").iterdir())]
    photographs = [predictor.read(path) for path in paths]
    for members in ((first, blind), (blind, second)):
        seen, _ = dataclasses.replace(predictor, members=members).has_seen(photographs)
        assert seen.tolist() == [False, False, False, True]
    unknown = dataclasses.replace(first, quality_reference=None)
    with pytest.raises(runs.RunError, match=r"quality.npz is missing; rerun the command"):
        dataclasses.replace(predictor, members=(unknown,)).has_seen(photographs)


def test_probabilities_do_not_depend_on_the_batch_and_other_data_is_refused(predictor, validation) -> None:
    photographs = validation.photographs
    whole = predictor.probabilities(photographs, 32)
    np.testing.assert_allclose(predictor.probabilities(photographs, 5), whole, atol=1e-6)
    np.testing.assert_allclose(predictor.probabilities(photographs[::-1], 7)[::-1], whole, atol=1e-6)
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-12)
    predictor.check_data(load_dataset(predictor.data_config).fingerprint)
    with pytest.raises(runs.RunError, match="other photographs"):
        predictor.check_data("of another folder")
