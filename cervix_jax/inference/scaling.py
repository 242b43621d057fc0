"""Log-probabilities that are scaled and shifted so that probabilities can be taken at their word.

A temperature divides them all by one number (Guo et al. 2017); vector scaling has a slope and a bias for each type, and
so can also move shares of types, which differ from one hospital to another (as diagonal Dirichlet calibration, Kull et
al. 2019).
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from cervix_jax.inference.array_namespace import ArrayT, namespaces
from cervix_jax.inference.calibration import fit_temperature

MAX_SLOPE, MAX_BIAS = 20.0, 5.0


@dataclasses.dataclass(frozen=True)
class Scaling:
    """p -> softmax(slopes * log p + biases); a slope and a bias for each of k types."""

    slopes: tuple[float, ...]
    biases: tuple[float, ...]

    @classmethod
    def identity(cls, k: int) -> "Scaling":
        """That which changes nothing."""
        return cls((1.0,) * k, (0.0,) * k)

    def apply(self, probabilities: Float[ArrayT, "n k"]) -> Float[ArrayT, "n k"]:
        """Scales NumPy or JAX arrays."""
        numpy, special = namespaces(probabilities)
        tiny = numpy.finfo(probabilities.dtype).tiny
        slopes, biases = (numpy.asarray(x, probabilities.dtype) for x in (self.slopes, self.biases))
        return special.softmax(numpy.log(numpy.maximum(probabilities, tiny)) * slopes + biases, axis=1)


def fit_none(probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> Scaling:
    """The identity, whatever the photographs."""
    return Scaling.identity(probabilities.shape[1])


def fit_temperature_scaling(probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> Scaling:
    """See `calibration.fit_temperature`."""
    k = probabilities.shape[1]
    return Scaling((1 / fit_temperature(probabilities, labels),) * k, (0.0,) * k)


def fit_vector_scaling(probabilities: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> Scaling:
    """Slopes, 0 to MAX_SLOPE, and biases of least cross-entropy, which is convex in them; biases sum to zero."""
    logs = np.log(np.maximum(probabilities, np.finfo(float).tiny))
    k, one_hot = probabilities.shape[1], np.eye(probabilities.shape[1])[labels]

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        scores = logs * x[:k] + x[k:]
        error = (softmax(scores, axis=1) - one_hot) / len(labels)
        value = (logsumexp(scores, axis=1) - (scores * one_hot).sum(axis=1)).mean()
        return float(value), np.concatenate([(error * logs).sum(axis=0), error.sum(axis=0)])

    bounds = [(0.0, MAX_SLOPE)] * k + [(-MAX_BIAS, MAX_BIAS)] * k
    start = np.concatenate([np.ones(k), np.zeros(k)])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x.tolist()
    mean = sum(found[k:]) / k
    return Scaling(tuple(found[:k]), tuple(bias - mean for bias in found[k:]))


METHODS = {"none": fit_none, "temperature": fit_temperature_scaling, "vector": fit_vector_scaling}
