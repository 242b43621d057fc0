"""The Gaussian against SciPy's and scikit-learn's, and that it is honest about photographs it was fitted on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.covariance import LedoitWolf

from cervix_jax.datasets.cleaning import Gaussian, Moments, closest, cross_fitted_log_density, ledoit_wolf_shrinkage
from cervix_jax.errors import UserError
from cervix_jax.images import synthetic
from cervix_jax.images.features import colour_histograms, sharpness


def features(n=80, d=12, rank=9, seed=0):
    """Rows of a covariance that is singular, as that of histograms is."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d)) + rng.normal(size=d)


@given(st.floats(0.01, 1), st.integers(0, 5))
def test_log_density_is_that_of_the_shrunken_normal(shrinkage, seed):
    x = features(seed=seed)
    covariance = np.cov(x.T, bias=True)
    shrunken = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / 12 * np.eye(12)
    expected = stats.multivariate_normal(x.mean(axis=0), shrunken).logpdf(x)
    np.testing.assert_allclose(Gaussian.fit(x, shrinkage).log_density(x), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("n", "d"), [(30, 12), (200, 5), (10, 40)])
def test_the_default_shrinkage_is_ledoit_and_wolf_s(n, d):
    x = features(n, d, rank=min(n, d))
    expected = LedoitWolf().fit(x).shrinkage_
    assert ledoit_wolf_shrinkage(Moments.of(x)) == pytest.approx(expected)
    covariance = LedoitWolf().fit(x).covariance_
    np.testing.assert_allclose(
        Gaussian.fit(x).log_density(x), stats.multivariate_normal(x.mean(axis=0), covariance).logpdf(x), rtol=1e-8
    )


@given(st.integers(1, 79), st.integers(0, 5))
def test_moments_of_the_rest_are_a_difference_of_sums(cut, seed):
    x = features(seed=seed)
    rest = Moments.of(x) - Moments.of(x[cut:])
    assert rest.count == cut
    np.testing.assert_allclose(rest.mean, x[:cut].mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(rest.covariance, np.cov(x[:cut].T, bias=True), atol=1e-8)
    fourth = np.mean(np.sum((x[:cut] - x[:cut].mean(axis=0)) ** 2, axis=1) ** 2)
    assert rest.mean_fourth == pytest.approx(fourth, abs=1e-6)


def test_histograms_have_finite_densities_though_their_covariance_is_singular():
    x = np.stack([colour_histograms(synthetic.draw(0, "train", i, size=(48, 36)).image) for i in range(40)])
    assert np.linalg.matrix_rank(np.cov(x.T)) < 40 < x.shape[1]
    assert np.isfinite(Gaussian.fit(x).log_density(x)).all()


def test_identical_photographs_have_no_distribution():
    with pytest.raises(UserError, match="the same"):
        Gaussian.fit(np.tile(np.random.default_rng(0).uniform(size=3), (5, 1)))


def test_cross_fitting_leaves_out_the_fold_it_scores():
    x, folds = features(), np.arange(80) % 4
    density = cross_fitted_log_density(x, folds)
    for fold in range(4):
        expected = Gaussian.fit(x[folds != fold]).log_density(x[folds == fold])
        np.testing.assert_allclose(density[folds == fold], expected)


def test_in_sample_densities_flatter_and_cross_fitted_ones_do_not():
    """What makes 'as dense as an initial photograph' a meaningless rule unless like is compared with like."""
    rng = np.random.default_rng(0)
    x, new = rng.normal(size=(120, 60)), rng.normal(size=(2000, 60))
    gaussian = Gaussian.fit(x, 1e-3)
    held_out = np.median(gaussian.log_density(new))
    in_sample = np.median(gaussian.log_density(x))
    crossed = np.median(cross_fitted_log_density(x, np.arange(120) % 10, 1e-3))
    assert in_sample - held_out > 20
    assert abs(crossed - held_out) < (in_sample - held_out) / 3


@given(st.lists(st.integers(-3, 3), max_size=30), st.floats(0, 1))
def test_the_closest_are_the_asked_share_and_none_left_out_is_closer(values, fraction):
    density = np.array(values, float)
    kept = closest(density, fraction)
    count = round(fraction * len(values))
    assert kept.sum() >= count
    if count:
        assert density[kept].min() == np.sort(density)[-count]
        assert (density[~kept] < density[kept].min()).all()
    else:
        assert not kept.any()


def test_scores_find_drawn_junk_and_blur():
    """With known truth: the density tells pictures without a cervix, the sharpness blurred ones."""
    size = (160, 120)
    initial = [synthetic.draw(1, "train", i, size=size).image for i in range(150)]
    kinds = {
        kind: [synthetic.draw(1, "additional", i, kind=kind, size=size).image for i in range(30)]
        for kind in ("clean", "junk", "blurred")
    }
    gaussian = Gaussian.fit(np.stack([colour_histograms(image) for image in initial]))
    density = {k: gaussian.log_density(np.stack([colour_histograms(i) for i in v])) for k, v in kinds.items()}
    sharp = {k: np.array([sharpness(image) for image in v]) for k, v in kinds.items()}

    def auc(good, bad):
        return np.mean(good[:, None] > bad[None]) + np.mean(good[:, None] == bad[None]) / 2

    assert auc(density["clean"], density["junk"]) > 0.85
    assert auc(sharp["clean"], sharp["blurred"]) > 0.9
