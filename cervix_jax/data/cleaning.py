"""Which additional photographs to train on: those that look like the initial ones and are sharp (report section 10).

The report fits a Gaussian to the 456 histogram numbers of the initial photographs and keeps the additional ones of
highest density. With 1,200 photographs and rank 426 the sample covariance is singular and overfits: photographs it was
fitted on have far higher densities than others. So it is shrunk towards a multiple of the identity, by as much as is
best for Gaussian data (Ledoit & Wolf 2004), everything is done in logarithms and float64, and initial photographs get
densities from Gaussians that were fitted without them.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from cervix_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """A multivariate normal, in its principal axes.

    Attributes:
      mean: of the features.
      axes: orthonormal columns.
      variances: along the axes, positive.
    """

    mean: Float[np.ndarray, "d"]
    axes: Float[np.ndarray, "d d"]
    variances: Float[np.ndarray, "d"]

    @classmethod
    def fit(cls, features: Float[np.ndarray, "n d"], shrinkage: float | None = None) -> "Gaussian":
        """The normal of mean m and covariance (1 - s) S + s tr(S)/d I, S being the sample covariance.

        Args:
          features: at least two rows.
          shrinkage: s, above 0 and at most 1; None for that of Ledoit and Wolf.

        Raises:
          UserError: all rows are the same, so that they have no distribution.
        """
        mean = features.mean(axis=0, dtype=np.float64)
        x = features - mean
        covariance = x.T @ x / len(x)
        if shrinkage is None:
            shrinkage = ledoit_wolf_shrinkage(x, covariance)
        variances, axes = np.linalg.eigh(covariance)
        if (average := variances.mean()) <= 0:
            raise UserError("all initial photographs are the same, so they have no distribution of colours")
        return cls(mean, axes, (1 - shrinkage) * np.maximum(variances, 0) + shrinkage * average)

    def log_density(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n"]:
        """Natural logarithm of the density, float64."""
        z = (features.astype(np.float64) - self.mean) @ self.axes
        constant = np.log(2 * np.pi * self.variances).sum()
        return -0.5 * ((z**2 / self.variances).sum(axis=1) + constant)


def ledoit_wolf_shrinkage(centred: Float[np.ndarray, "n d"], covariance: Float[np.ndarray, "d d"]) -> float:
    """The shrinkage of least expected squared error (Ledoit & Wolf 2004, lemma 3.3).

    The mean over rows of |x x' - S|^2 is that of |x|^4 less |S|^2, so the n matrices x x' are never made.
    """
    n, d = centred.shape
    distance = np.sum((covariance - np.trace(covariance) / d * np.eye(d)) ** 2)
    error = (np.mean(np.sum(centred**2, axis=1) ** 2) - np.sum(covariance**2)) / n
    return float(np.clip(error / distance, 1e-6, 1)) if distance > 0 else 1.0


def cross_fitted_log_density(
    features: Float[np.ndarray, "n d"], folds: Int[np.ndarray, "n"], shrinkage: float | None = None
) -> Float[np.ndarray, "n"]:
    """Log density of each row under the Gaussian of the rows of other folds: comparable with rows never fitted on."""
    density = np.empty(len(features))
    for fold in np.unique(folds):
        held_out = folds == fold
        density[held_out] = Gaussian.fit(features[~held_out], shrinkage).log_density(features[held_out])
    return density


def closest(log_density: Float[np.ndarray, "n"], fraction: float) -> Bool[np.ndarray, "n"]:
    """The given fraction of highest density; ties are kept together."""
    if len(log_density) == 0:
        return np.zeros(0, bool)
    count = round(fraction * len(log_density))
    if count == 0:
        return np.zeros(len(log_density), bool)
    return log_density >= np.sort(log_density)[-count]
