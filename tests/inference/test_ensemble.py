"""Averages of distributions in closed form, and ensembles of real runs against their members."""

import dataclasses
import shutil

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cervix_jax import runs
from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.inference import ensemble
from cervix_jax.inference.predictor import EnsembleError, Predictor
from cervix_jax.training import loop

DISTRIBUTIONS = hnp.arrays(float, (3, 4, 3), elements=st.floats(0.01, 1)).map(lambda x: x / x.sum(-1, keepdims=True))


def test_weights_are_the_report_s() -> None:
    np.testing.assert_allclose(ensemble.report_weights([0.75, 0.85, 0.90]), np.array([0.20, 0.10, 0.05]) / 0.35)
    np.testing.assert_allclose(ensemble.report_weights([0.75, 0.95, 1.2]), [1, 0, 0])  # never negative
    assert ensemble.report_weights([0.95, 1.2]) is None


@given(DISTRIBUTIONS)
def test_means_are_distributions_between_those_of_the_members(p) -> None:
    weights = np.array([0.5, 0.3, 0.2])
    arithmetic, geometric = ensemble.mean(p, weights), ensemble.mean(p, weights, geometric=True)
    for mean in (arithmetic, geometric):
        np.testing.assert_allclose(mean.sum(axis=1), 1)
    assert (arithmetic >= p.min(axis=0) - 1e-12).all()
    assert (arithmetic <= p.max(axis=0) + 1e-12).all()
    np.testing.assert_allclose(geometric * np.exp(weights @ np.log(p[:, :, 0]))[:, None] / geometric[:, :1],
                               np.exp(np.tensordot(weights, np.log(p), axes=1)))  # fmt: skip
    one = np.array([0.0, 1.0, 0.0])
    np.testing.assert_allclose(ensemble.mean(p, one), p[1])
    np.testing.assert_allclose(ensemble.mean(p, one, geometric=True), p[1])


def test_a_geometric_mean_of_certainties_stays_a_distribution() -> None:
    p = np.array([[[1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]]])
    mean = ensemble.mean(p, np.array([0.5, 0.5]), geometric=True)
    np.testing.assert_allclose(mean, [[0.5, 0, 0.5]], atol=1e-12)


def test_one_vs_rest_models_share_one_distribution() -> None:
    own = np.array([[0.6, 0.3, 0.3], [0.0, 0.0, 0.0], [0.0, 0.0, 0.4]])
    np.testing.assert_allclose(ensemble.normalize_one_vs_rest(own), [[0.5, 0.25, 0.25], [1 / 3] * 3, [0, 0, 1]])


@pytest.fixture
def photographs(manual_dir):
    return sorted((manual_dir / "test").iterdir())


def probabilities(predictor, paths):
    return predictor.probabilities([predictor.read(path) for path in paths])


@pytest.fixture(scope="module")
def other(manual_dir, data_dir, tmp_path_factory):
    """A run of another seed."""
    from tests.conftest import make_tiny_config

    config = make_tiny_config(manual_dir, data_dir)
    config.seed = 1
    loop.train(config, workdir := tmp_path_factory.mktemp("other") / "run")
    return workdir


def test_an_ensemble_is_the_mean_of_its_members(run, other, photographs) -> None:
    both = [run[0], other]
    single = np.stack([probabilities(Predictor.restore([workdir]), photographs) for workdir in both])
    assert np.abs(single[0] - single[1]).max() > 1e-3
    losses = [min(row["validation_loss"] for row in runs.read_metrics(workdir)) for workdir in both]
    weights = ensemble.report_weights(losses)
    weights = np.array([0.5, 0.5]) if weights is None else weights
    for rule, expected in (
        ("mean", single.mean(axis=0)),
        ("report", ensemble.mean(single, weights)),
        ("geometric", ensemble.mean(single, np.array([0.5, 0.5]), geometric=True)),
    ):
        found = probabilities(Predictor.restore(both, rule=rule), photographs)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_members_may_see_photographs_at_different_sizes(run, tiny_config, tmp_path, photographs) -> None:
    tiny_config.dataset.image_size = (40, 32)
    tiny_config.epochs = 1
    loop.train(tiny_config, tmp_path / "larger")
    both = [run[0], tmp_path / "larger"]
    single = [probabilities(Predictor.restore([workdir]), photographs) for workdir in both]
    found = probabilities(Predictor.restore(both, rule="mean"), photographs)
    np.testing.assert_allclose(found, np.mean(single, axis=0), atol=1e-12)


def test_equal_weights_where_the_report_s_rule_gives_none_and_that_is_said(run, photographs, capsys) -> None:
    twin = shutil.copytree(run[0], run[0].with_name("twin"))
    bad = Predictor.restore([run[0], twin])
    losses = [member.validation_loss for member in bad.members]
    assert ("equal weights" in capsys.readouterr().err) == (min(losses) >= 0.95)
    alone = probabilities(Predictor.restore([run[0]]), photographs)
    np.testing.assert_allclose(probabilities(bad, photographs), alone, atol=1e-12)


def test_the_report_s_weights_reach_the_probabilities(run, other, photographs) -> None:
    both = Predictor.restore([run[0], other])
    single = np.stack([probabilities(dataclasses.replace(both, members=(m,)), photographs) for m in both.members])
    losses = [0.65, 0.85]
    members = tuple(dataclasses.replace(m, validation_loss=x) for m, x in zip(both.members, losses, strict=True))
    found = probabilities(dataclasses.replace(both, members=members), photographs)
    np.testing.assert_allclose(found, 0.75 * single[0] + 0.25 * single[1], atol=1e-12)


@pytest.fixture(scope="module")
def one_vs_rest(manual_dir, data_dir, tmp_path_factory):
    from tests.conftest import make_tiny_config

    folder, workdirs = tmp_path_factory.mktemp("one_vs_rest"), []
    for name in ("Type_1", "Type_2", "Type_3"):
        config = make_tiny_config(manual_dir, data_dir)
        config.epochs = 1
        config.selection.one_vs_rest = name
        loop.train(config, folder / name)
        workdirs.append(folder / name)
    return workdirs


def test_three_one_vs_rest_runs_are_one_predictor_of_types(one_vs_rest, photographs) -> None:
    predictor = Predictor.restore(one_vs_rest[::-1])  # whatever their order
    assert predictor.class_names == ("Type_1", "Type_2", "Type_3")
    own = [probabilities(Predictor.restore([workdir]), photographs)[:, 1] for workdir in one_vs_rest]
    expected = np.stack(own, axis=1)
    np.testing.assert_allclose(probabilities(predictor, photographs), expected / expected.sum(1, keepdims=True))
    assert sum(predictor.class_shares) == pytest.approx(1)
    data = load_dataset(predictor.data_config)
    assert set(data.examples("validation").labels) == {0, 1, 2}
    np.testing.assert_allclose(predictor.class_shares, data.examples("train").class_priors(), atol=1e-9)


def test_runs_that_do_not_belong_together_are_refused(one_vs_rest, run, tiny_config, tmp_path) -> None:
    with pytest.raises(EnsembleError, match="there is none for Type_3"):
        Predictor.restore(one_vs_rest[:2])
    with pytest.raises(EnsembleError, match="cannot be one ensemble"):
        Predictor.restore([run[0], one_vs_rest[0]])
    tiny_config.selection.fold = 0
    tiny_config.epochs = 1
    loop.train(tiny_config, tmp_path / "fold")
    with pytest.raises(EnsembleError, match=r"config.selection.fold is 4 in .* and 0 in"):
        Predictor.restore([run[0], tmp_path / "fold"])


def test_identity_follows_what_changes_probabilities_and_nothing_else(run, tmp_path) -> None:
    one = Predictor.restore([run[0]])
    moved = shutil.copytree(run[0], tmp_path / "moved")
    assert Predictor.restore([moved]).identity == one.identity
    assert Predictor.restore([run[0]], rule="mean").identity == one.identity  # of one run there is nothing to average
    swapped = [Predictor.restore(pair) for pair in ([run[0], moved], [moved, run[0]])]
    assert swapped[0].identity == swapped[1].identity
    others = [
        Predictor.restore([run[0]], augmentations=["flips"]),
        Predictor.restore([run[0], moved]),
        Predictor.restore([run[0], moved], rule="mean"),
    ]
    assert len({one.identity, *(other.identity for other in others)}) == 4
