"""Mixup and CutMix against their papers' equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from cervix_jax.training.mixing import cut_mix, mix_up


def mixing_batch() -> dict[str, jax.Array]:
    return {
        "image": jax.random.uniform(jax.random.key(1), (6, 12, 9, 3)) * 255,
        "label": jnp.arange(6),
        "mask": jnp.array([True, True, False, True, True, False]),
    }


def test_mixup_blends_each_image_with_the_real_one_before_it() -> None:
    """Zhang et al. 2018, equation 1, with the larger part an image's own."""
    batch, keys = mixing_batch(), jax.random.split(jax.random.key(0), 6)
    mixed = mix_up(batch | {"target": jnp.eye(6)}, keys, 0.4)
    real, partner = [0, 1, 3, 4], [4, 0, 1, 3]
    np.testing.assert_array_equal(mixed["partner_label"][jnp.array(real)], partner)
    np.testing.assert_array_equal(mixed["partner_target"], jnp.eye(6)[mixed["partner_label"]])
    part, images = np.asarray(mixed["own_part"]), np.asarray(batch["image"])
    assert ((part >= 0.5) & (part <= 1)).all()
    weight = part[real][:, None, None, None]
    np.testing.assert_allclose(
        np.asarray(mixed["image"])[real], weight * images[real] + (1 - weight) * images[partner], rtol=1e-5, atol=1e-3
    )


def test_parts_of_mixup_have_the_beta_distribution_folded_at_a_half() -> None:
    count = 4000
    batch = {"image": jnp.zeros((count, 1, 1, 1)), "label": jnp.zeros(count, int), "mask": jnp.ones(count, bool)}
    parts = mix_up(batch, jax.random.split(jax.random.key(0), count), 0.4)["own_part"]
    folded = np.maximum(draws := np.random.default_rng(0).beta(0.4, 0.4, count), 1 - draws)
    assert stats.ks_2samp(np.asarray(parts), folded).pvalue > 1e-3


@pytest.mark.parametrize("mix", [mix_up, cut_mix])
def test_padding_between_rows_changes_no_mixture(mix) -> None:
    """So a step computes the same on any number of devices."""
    batch, keys = mixing_batch(), jax.random.split(jax.random.key(0), 6)
    real = jnp.array([0, 1, 3, 4])
    whole = mix({name: x[real] for name, x in batch.items()}, keys[real], 0.4)
    np.testing.assert_array_equal(mix(batch, keys, 0.4)["image"][real], whole["image"])


def test_cutmix_pastes_a_rectangle_of_the_real_image_before_and_counts_its_area() -> None:
    count = 300
    black_and_white = jnp.tile(jnp.array([0.0, 255.0]), count // 2)[:, None, None, None]
    batch = {"image": jnp.broadcast_to(black_and_white, (count, 20, 30, 3)), "label": jnp.arange(count)}
    mixed = cut_mix(batch | {"mask": jnp.ones(count, bool)}, jax.random.split(jax.random.key(0), count), 1.0)
    pasted = np.asarray(mixed["image"] != black_and_white)[..., 0]
    np.testing.assert_array_equal(mixed["partner_label"], np.roll(np.arange(count), 1))
    np.testing.assert_allclose(mixed["own_part"], 1 - pasted.mean(axis=(1, 2)), atol=1e-6)
    rows, columns = pasted.any(axis=2).sum(axis=1), pasted.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(pasted.sum(axis=(1, 2)), rows * columns)
    inside = ~(pasted[:, [0, -1]].any(axis=(1, 2)) | pasted[:, :, [0, -1]].any(axis=(1, 2)))  # not cut off
    np.testing.assert_allclose(rows[inside] / 20, columns[inside] / 30, atol=0.06)  # of the image's shape
    assert pasted.any(axis=0).all()


def test_areas_of_cutmix_have_the_beta_distribution_where_nothing_is_cut_off() -> None:
    """Small rectangles, which the border cuts off seldom."""
    count, size = 2000, 64
    batch = {"image": jnp.zeros((count, size, size, 1)), "label": jnp.zeros(count, int), "mask": jnp.ones(count, bool)}
    own = np.asarray(cut_mix(batch, jax.random.split(jax.random.key(1), count), 1.0)["own_part"])
    # Of sides s, centres uniform: a side keeps s - s^2 / 4 of the image on average, so the area (s - s^2 / 4)^2.
    sides = np.sqrt(np.random.default_rng(0).uniform(size=200_000))
    np.testing.assert_allclose(1 - own.mean(), np.square(sides - sides**2 / 4).mean(), atol=0.015)
