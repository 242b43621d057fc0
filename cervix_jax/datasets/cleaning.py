"""The Gaussian of colours by which additional photographs are compared with the initial ones (report section 10).

The report fits a Gaussian to the 456 histogram features of the initial photographs and keeps the additional ones of
highest density. With 1,200 photographs and rank 426 the sample covariance is singular and overfits: photographs it was
fitted on have far higher densities than others. So it is shrunk towards a multiple of the identity (Ledoit & Wolf
2004), everything is computed in logarithms and float64, and initial photographs get out-of-fold densities.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from cervix_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Moments:
    """Sums over rows x of features, up to fourth order; float64. A fold is left out by subtracting its own.

    Attributes:
      count: number of rows.
      total: sum of x.
      products: sum of x x'.
      cubes: sum of |x|^2 x.
      fourths: sum of |x|^4.
    """

    count: int
    total: Float[np.ndarray, "d"]
    products: Float[np.ndarray, "d d"]
    cubes: Float[np.ndarray, "d"]
    fourths: float

    @classmethod
    def of(cls, features: Float[np.ndarray, "n d"]) -> "Moments":
        x = features.astype(np.float64)
        squares = np.sum(x**2, axis=1)
        return cls(len(x), x.sum(axis=0), x.T @ x, squares @ x, float(np.sum(squares**2)))

    def __sub__(self, other: "Moments") -> "Moments":
        return Moments(
            self.count - other.count,
            self.total - other.total,
            self.products - other.products,
            self.cubes - other.cubes,
            self.fourths - other.fourths,
        )

    @property
    def mean(self) -> Float[np.ndarray, "d"]:
        return self.total / self.count

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        return self.products / self.count - np.outer(self.mean, self.mean)

    @property
    def mean_fourth(self) -> float:
        """Mean of |x - mean|^4, by multiplying out."""
        m, square = self.mean, float(self.mean @ self.mean)
        about_zero = (
            self.fourths - 4 * m @ self.cubes + 4 * m @ self.products @ m + 2 * square * np.trace(self.products)
        )
        return float(about_zero / self.count - 3 * square**2)


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """A multivariate normal, in its principal axes.

    Attributes:
      mean: mean of the features.
      axes: principal axes, orthonormal columns.
      variances: variance along each axis, positive.
    """

    mean: Float[np.ndarray, "d"]
    axes: Float[np.ndarray, "d d"]
    variances: Float[np.ndarray, "d"]

    @classmethod
    def fit(cls, features: Float[np.ndarray, "n d"], shrinkage: float | None = None) -> "Gaussian":
        """Fits at least two rows of features; see `from_moments`."""
        return cls.from_moments(Moments.of(features), shrinkage)

    @classmethod
    def from_moments(cls, moments: Moments, shrinkage: float | None = None) -> "Gaussian":
        """The normal of mean m and covariance (1 - s) S + s tr(S)/d I, where S is the sample covariance.

        Args:
          moments: sums over at least two rows.
          shrinkage: s, above 0 and at most 1; None for `ledoit_wolf_shrinkage`.

        Raises:
          UserError: all rows are the same, so that they have no distribution.
        """
        covariance = moments.covariance
        if shrinkage is None:
            shrinkage = ledoit_wolf_shrinkage(moments)
        variances, axes = np.linalg.eigh(covariance)
        average = variances.mean()
        if average <= 1e-12 * np.trace(moments.products) / moments.products.size:  # rounding, where they are the same
            raise UserError("all initial photographs are the same, so they have no distribution of colours")
        return cls(moments.mean, axes, (1 - shrinkage) * np.maximum(variances, 0) + shrinkage * average)

    def log_density(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n"]:
        """Natural logarithm of the density at each row, float64."""
        z = (features.astype(np.float64) - self.mean) @ self.axes
        constant = np.log(2 * np.pi * self.variances).sum()
        return -0.5 * ((z**2 / self.variances).sum(axis=1) + constant)


def ledoit_wolf_shrinkage(moments: Moments) -> float:
    """The shrinkage of least expected squared error (Ledoit & Wolf 2004, lemma 3.3).

    The mean over centred rows x of |x x' - S|^2 is that of |x|^4 minus |S|^2, so no matrix x x' is formed.
    """
    covariance = moments.covariance
    d = len(covariance)
    distance = np.sum((covariance - np.trace(covariance) / d * np.eye(d)) ** 2)
    error = (moments.mean_fourth - np.sum(covariance**2)) / moments.count
    return float(np.clip(error / distance, 1e-6, 1)) if distance > 0 else 1.0


def cross_fitted_log_density(
    features: Float[np.ndarray, "n d"], folds: Int[np.ndarray, "n"], shrinkage: float | None = None
) -> Float[np.ndarray, "n"]:
    """Out-of-fold log density of each row, which compares with that of rows that no Gaussian was fitted on."""
    density, total = np.empty(len(features)), Moments.of(features)
    for fold in np.unique(folds):
        held_out = features[folds == fold]
        others = Gaussian.from_moments(total - Moments.of(held_out), shrinkage)
        density[folds == fold] = others.log_density(held_out)
    return density


def closest(log_density: Float[np.ndarray, "n"], fraction: float) -> Bool[np.ndarray, "n"]:
    """Mask of the given fraction of rows with the highest density; ties are kept together."""
    if len(log_density) == 0:
        return np.zeros(0, bool)
    count = round(fraction * len(log_density))
    if count == 0:
        return np.zeros(len(log_density), bool)
    return log_density >= np.sort(log_density)[-count]
