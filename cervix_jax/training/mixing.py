"""Training images blended with others of their batch, and so their losses: mixup and CutMix."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


def mix_up(batch: Mapping[str, Array], keys: Key[Array, "b"], alpha: float) -> dict[str, Array]:
    """Blends each image with that of the row before it, cyclically (Zhang et al. 2018); the larger part is its own.

    Args:
      batch: `image` [b h w c], `label` [b] and `mask` [b]; padded rows, whose mask is False, are nobody's partner.
      keys: one random key per example.
      alpha: both parameters of the beta distribution of the parts.

    Returns:
      The batch with other images, `own_part` [b], the part of each image's own, and `partner_label` [b] (and
      `partner_target` [b k], if the batch has `target`), the label of the other.
    """
    part = _beta(keys, alpha)
    own_part = jnp.maximum(part, 1 - part)
    weight = own_part[:, None, None, None]
    partner = _partner(batch["mask"])
    return _mixed(batch, weight * batch["image"] + (1 - weight) * batch["image"][partner], own_part, partner)


def cut_mix(batch: Mapping[str, Array], keys: Key[Array, "b"], alpha: float) -> dict[str, Array]:
    """Pastes into each image a rectangle of the row before it, cyclically (Yun et al. 2019, section 3.1).

    The rectangle has the image's shape, is centred on any pixel and cut off at the border; its area is 1 - part of the
    image, where it is not cut off, for a part from a beta distribution.

    Args:
      batch: see `mix_up`.
      keys: one random key per example.
      alpha: both parameters of the beta distribution.

    Returns:
      See `mix_up`; `own_part` is the area that is not pasted over.
    """
    _, height, width, _ = batch["image"].shape
    side = jnp.sqrt(1 - _beta(keys, alpha))[:, None]
    center = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1), (2,)))(keys)
    rows = jnp.abs((jnp.arange(height) + 0.5) / height - center[:, :1]) < side / 2
    columns = jnp.abs((jnp.arange(width) + 0.5) / width - center[:, 1:]) < side / 2
    pasted: Bool[Array, "b h w"] = rows[:, :, None] & columns[:, None, :]
    partner = _partner(batch["mask"])
    image = jnp.where(pasted[..., None], batch["image"][partner], batch["image"])
    return _mixed(batch, image, 1 - pasted.mean(axis=(1, 2)), partner)


def _beta(keys: Key[Array, "b"], alpha: float) -> Float[Array, "b"]:
    return jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys)


def _partner(mask: Bool[Array, "b"]) -> Int[Array, "b"]:
    """The real row before each row, cyclically."""
    place = jnp.cumsum(mask) - 1
    real_rows = jnp.argsort(~mask, stable=True)
    return real_rows[(place - 1) % mask.sum()]


def _mixed(
    batch: Mapping[str, Array], image: Float[Array, "b h w c"], own_part: Float[Array, "b"], partner: Int[Array, "b"]
) -> dict[str, Array]:
    of_partner = {f"partner_{name}": batch[name][partner] for name in ("label", "target") if name in batch}
    return {**batch, "image": image, "own_part": own_part, **of_partner}
