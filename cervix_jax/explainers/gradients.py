"""Explanations by the gradient of a score with respect to the pixels: saliency, SmoothGrad, integrated gradients."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from cervix_jax.explainers.base import Gradients, Images, Maps, Method, Score


def gradient(score: Score, images: Images) -> Gradients:
    """D score / d pixel."""
    return jax.grad(lambda images: score(images).sum())(images)


def saliency(score: Score, images: Images) -> Maps:
    """The positive part of the gradient, its largest over channels (report section 13.1; Simonyan et al. 2014)."""
    return positive_part(gradient(score, images))


def smooth_grad(score: Score, images: Images, key: Key[Array, ""], *, samples: int = 25, noise: float = 0.1) -> Maps:
    """Saliency of the mean gradient over noisy copies (Smilkov et al. 2017).

    Args:
      score: see `base.Score`.
      images: see `base.Images`.
      key: seeds the noise.
      samples: noisy copies of each image.
      noise: standard deviation, as a fraction of the range of an image's values (their section 3).
    """
    leaves, structure = jax.tree.flatten(images)

    def add(total: Gradients, key: Key[Array, ""]) -> tuple[Gradients, None]:
        noisy = [_with_noise(x, k, noise) for x, k in zip(leaves, jax.random.split(key, len(leaves)), strict=True)]
        return jax.tree.map(jnp.add, total, gradient(score, jax.tree.unflatten(structure, noisy))), None

    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, images), jax.random.split(key, samples))
    return positive_part(jax.tree.map(lambda x: x / samples, total))


def integrated_gradients(score: Score, images: Images, baseline: Images | None = None, *, steps: int = 32) -> Gradients:
    """Attributions of pixels and channels that sum to score(images) - score(baseline) (Sundararajan et al. 2017).

    The integral along the straight line is a sum over midpoints, so the identity holds up to the error of that.

    Args:
      score: see `base.Score`.
      images: see `base.Images`.
      baseline: images without evidence; each photograph's mean colour unless given. (Black would give no attribution to
        what is black itself, such as the os.)
      steps: midpoints.
    """
    base = mean_colour(images) if baseline is None else baseline
    change = jax.tree.map(jnp.subtract, images, base)

    def add(total: Gradients, fraction: Float[Array, ""]) -> tuple[Gradients, None]:
        between = jax.tree.map(lambda x, d: x + fraction * d, base, change)
        return jax.tree.map(jnp.add, total, gradient(score, between)), None

    fractions = (jnp.arange(steps) + 0.5) / steps
    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, images), fractions)
    return jax.tree.map(lambda d, x: d * x / steps, change, total)


SALIENCY = Method("Saliency", lambda score, images, key: saliency(score, images))
SMOOTH_GRAD = Method("SmoothGrad", smooth_grad)
INTEGRATED_GRADIENTS = Method(
    "Integrated gradients", lambda score, images, key: positive_sum(integrated_gradients(score, images))
)


def mean_colour(images: Images) -> Images:
    """Images of the same shapes, each of one colour: its photograph's mean."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x.mean(axis=(1, 2), keepdims=True), x.shape), images)


def positive_part(gradients: Gradients) -> Maps:
    """The largest positive part over channels: pixels that raise the score if they get brighter."""
    return jax.tree.map(lambda x: jnp.maximum(x, 0).max(axis=-1), gradients)


def positive_sum(attributions: Gradients) -> Maps:
    """The positive part of the sum over channels: pixels that speak for the score."""
    return jax.tree.map(lambda x: jnp.maximum(x.sum(axis=-1), 0), attributions)


def _with_noise(x: Float[Array, "b h w 3"], key: Key[Array, ""], noise: float) -> Float[Array, "b h w 3"]:
    value_range = x.max(axis=(1, 2, 3), keepdims=True) - x.min(axis=(1, 2, 3), keepdims=True)
    return x + noise * value_range * jax.random.normal(key, x.shape)
