"""Combinations in closed form, the same on host and device, and members that cannot be combined."""

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cervix_jax.inference.ensemble import Combination, EnsembleError, combine, report_weights
from cervix_jax.labels import CLASS_NAMES

DISTRIBUTIONS = hnp.arrays(float, (3, 4, 3), elements=st.floats(0.01, 1)).map(lambda x: x / x.sum(-1, keepdims=True))
LOSSES = (0.45, 0.65, 0.75)  # weights 0.5, 0.3, 0.2
BINARY = [("rest", name) for name in CLASS_NAMES]


def combined(probabilities, rule="report", losses=LOSSES, class_names=(CLASS_NAMES,) * 3):
    return combine(list(probabilities), rule=rule, losses=losses, class_names=class_names)[0]


def test_weights_are_the_report_s() -> None:
    np.testing.assert_allclose(report_weights([0.75, 0.85, 0.90]), np.array([0.20, 0.10, 0.05]) / 0.35)
    np.testing.assert_allclose(report_weights([0.75, 0.95, 1.2]), [1, 0, 0])  # never negative
    assert report_weights([0.95, 1.2]) is None
    assert Combination.of("report", [0.95, 1.2], [CLASS_NAMES] * 2).weights == (0.5, 0.5)
    assert Combination.of("mean", [0.1, 0.9], [CLASS_NAMES] * 2).weights == (0.5, 0.5)


@given(DISTRIBUTIONS)
def test_means_are_weighted_distributions_between_those_of_the_members(p) -> None:
    weights = np.array([0.5, 0.3, 0.2])
    arithmetic = combined(p)
    np.testing.assert_allclose(arithmetic, np.tensordot(weights, p, axes=1), rtol=1e-12)
    assert (arithmetic >= p.min(axis=0) - 1e-12).all()
    assert (arithmetic <= p.max(axis=0) + 1e-12).all()
    geometric = combined(p, "geometric")
    expected = np.exp(np.log(p).mean(axis=0))
    np.testing.assert_allclose(geometric, expected / expected.sum(axis=1, keepdims=True), rtol=1e-12)


def test_one_member_is_returned_as_it_is() -> None:
    p = np.array([[1.0, 0.0, 0.0], [0.1, 0.2, 0.7]])
    for rule in ("report", "mean", "geometric"):
        np.testing.assert_array_equal(combined([p], rule, [2.0], [CLASS_NAMES]), p)


def test_a_geometric_mean_of_certainties_stays_a_distribution() -> None:
    p = np.array([[[1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]]])
    np.testing.assert_allclose(combined(p, "geometric", [1.0, 1.0], [CLASS_NAMES] * 2), [[0.5, 0, 0.5]], atol=1e-12)


def test_one_vs_rest_members_become_one_distribution_whatever_their_order() -> None:
    own = np.array([[0.6, 0.3, 0.3], [0.0, 0.0, 0.0], [0.0, 0.0, 0.4]])
    members = [np.stack([1 - own[:, i], own[:, i]], axis=1) for i in range(3)]
    expected = [[0.5, 0.25, 0.25], [1 / 3] * 3, [0, 0, 1]]
    for rule in ("one_vs_rest", "report", "geometric"):
        p, names = combine(members[::-1], rule=rule, losses=LOSSES, class_names=BINARY[::-1])
        assert names == CLASS_NAMES
        np.testing.assert_allclose(p, expected, atol=1e-12)


def test_weights_sum_to_one_in_each_mean() -> None:
    combination = Combination.of("report", [0.8, 0.8, 0.8, 0.8], [*BINARY, BINARY[1]])
    assert combination.groups == ((0,), (1, 3), (2,))
    assert combination.weights == (1, 0.5, 1, 0.5)


@pytest.mark.parametrize("rule", ["report", "geometric"])
@pytest.mark.parametrize("class_names", [(CLASS_NAMES,) * 3, BINARY], ids=["types", "one_vs_rest"])
def test_host_and_device_compute_the_same_and_gradients_are_those_of_differences(rule, class_names) -> None:
    combination = Combination.of(rule, LOSSES, class_names)
    rng = np.random.default_rng(0)
    logits = [rng.normal(size=(4, len(names))) for names in class_names]
    with jax.enable_x64(True):

        def total(logits):
            return combination.log_probabilities([jax.nn.log_softmax(x) for x in logits])[:, 1].sum()

        on_device = jax.jit(combination.log_probabilities)([jax.nn.log_softmax(jnp.asarray(x)) for x in logits])
        gradient = jax.grad(total)([jnp.asarray(x) for x in logits])[1]
        step = [jnp.zeros_like(x) for x in logits]
        step[1] = step[1].at[2, 1].set(1e-5)
        up, down = (total([x + sign * s for x, s in zip(logits, step, strict=True)]) for sign in (1, -1))
        np.testing.assert_allclose(gradient[2, 1], (up - down) / 2e-5, rtol=1e-6)
    on_host = combination.probabilities([np.asarray(jax.nn.softmax(x)) for x in logits])
    np.testing.assert_allclose(np.exp(on_device), on_host, rtol=1e-6)
    np.testing.assert_allclose(on_host.sum(axis=1), 1, rtol=1e-6)


def test_members_and_rules_that_do_not_fit_are_refused() -> None:
    for class_names, message in (
        (BINARY[:2], "there is none for Type_3"),
        ([CLASS_NAMES, BINARY[0]], "cannot be one ensemble"),
    ):
        with pytest.raises(EnsembleError, match=message):
            Combination.of("mean", [1.0, 1.0], class_names)
    with pytest.raises(EnsembleError, match="no rule 'median'"):
        Combination.of("median", [1.0], [CLASS_NAMES])


def test_a_logit_of_one_vs_rest_members_is_that_of_the_class_less_that_of_the_rest() -> None:
    members = [np.array([[0.5, 2.0 * i]]) for i in range(3)]
    logits = Combination.of("mean", LOSSES, BINARY).logits(members)
    np.testing.assert_allclose(logits, [[-0.5, 1.5, 3.5]])
