"""The affine warp against SciPy's, and the random maps against what the options promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cervix_jax import config as options
from cervix_jax.images.boxes import bounding_box
from cervix_jax.training.augmentation import augment, random_affine, warp
from cervix_jax.training.pixel_transforms import PIXEL_TRANSFORMS

OFF = {
    "augmentation.horizontal_flip": False,
    "augmentation.vertical_flip": False,
    "augmentation.translation": 0.0,
    "augmentation.shear": 0.0,
    "augmentation.zoom": 0.0,
    "augmentation.rotation": 0.0,
}
HEIGHT, WIDTH = 12, 9

warp = jax.jit(warp)


def augmentation(**changes):
    return options.unflatten(OFF | {f"augmentation.{name}": value for name, value in changes.items()}).augmentation


def pictures(count: int = 2) -> jax.Array:
    return jax.random.uniform(jax.random.key(1), (count, HEIGHT, WIDTH, 3)) * 255


def maps(count: int = 400, **changes) -> np.ndarray:
    """Many random maps [count 2 3]."""
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(jax.vmap(lambda key: random_affine(key, HEIGHT, WIDTH, augmentation(**changes)))(keys))


numbers = st.floats(-1.5, 1.5, width=32)


@given(linear=st.tuples(numbers, numbers, numbers, numbers), shift=st.tuples(numbers, numbers))
def test_warp_is_bilinear_interpolation_with_the_border_repeated(linear, shift) -> None:
    image = pictures(1)[0]
    matrix = np.array(linear, np.float64).reshape(2, 2)
    centre = np.array([(HEIGHT - 1) / 2, (WIDTH - 1) / 2])
    offset = centre + np.array(shift) * 5 - matrix @ centre
    affine = np.concatenate([matrix, np.array(shift)[:, None] * 5], axis=1)
    expected = np.stack(
        [
            ndimage.affine_transform(np.asarray(image[..., c], np.float64), matrix, offset, order=1, mode="nearest")
            for c in range(3)
        ],
        axis=-1,
    )
    np.testing.assert_allclose(warp(image, jnp.asarray(affine, jnp.float32)), expected, atol=0.02)


@pytest.mark.parametrize("shape", [(1, 5, 3), (5, 1, 3), (1, 1, 1)])
def test_warp_works_on_lines_and_dots(shape: tuple[int, int, int]) -> None:
    image = jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape)
    np.testing.assert_array_equal(warp(image, jnp.eye(2, 3)), image)


def test_with_everything_off_nothing_changes() -> None:
    images = pictures()
    keys = jax.random.split(jax.random.key(0), 2)
    np.testing.assert_array_equal(augment({"image": images}, keys, augmentation())["image"], images)


def test_flips_are_exact_and_each_happens_half_the_time() -> None:
    images = jnp.repeat(pictures(1), 400, axis=0)
    keys = jax.random.split(jax.random.key(0), len(images))
    flipped = np.asarray(
        augment({"image": images}, keys, augmentation(horizontal_flip=True, vertical_flip=True))["image"]
    )
    image = np.asarray(images[0])
    kinds = [image, image[::-1], image[:, ::-1], image[::-1, ::-1]]
    shares = [np.mean([np.allclose(other, kind, atol=1e-3) for other in flipped]) for kind in kinds]
    assert sum(shares) == 1
    np.testing.assert_allclose(shares, 0.25, atol=0.08)


def test_one_flip_alone_is_along_its_own_axis() -> None:
    assert set(np.sign(maps(horizontal_flip=True)[:, 0, 0])) == {1}
    assert set(np.sign(maps(horizontal_flip=True)[:, 1, 1])) == {1, -1}
    assert set(np.sign(maps(vertical_flip=True)[:, 0, 0])) == {1, -1}
    assert set(np.sign(maps(vertical_flip=True)[:, 1, 1])) == {1}


def test_translation_shear_and_zoom_fill_their_ranges() -> None:
    shift = maps(translation=0.2)[:, :, 2] / [HEIGHT, WIDTH]
    np.testing.assert_allclose([shift.min(0), shift.max(0)], [[-0.2] * 2, [0.2] * 2], atol=0.01)
    shear = maps(shear=0.3)[:, 1, 0]
    np.testing.assert_allclose([shear.min(), shear.max()], [-0.3, 0.3], atol=0.01)
    zoom = 1 / maps(zoom=0.25)[:, 0, 0]
    np.testing.assert_allclose([zoom.min(), zoom.max()], [0.75, 1.25], atol=0.01)


def test_rotations_are_rotations_that_fill_their_range() -> None:
    matrices = maps(rotation=30.0)[:, :, :2]
    np.testing.assert_allclose(
        matrices @ matrices.transpose(0, 2, 1), np.broadcast_to(np.eye(2), matrices.shape), atol=1e-6
    )
    angles = np.rad2deg(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    np.testing.assert_allclose([angles.min(), angles.max()], [-30, 30], atol=1)


def test_a_photograph_is_augmented_alike_wherever_it_stands_in_a_batch() -> None:
    images, keys = pictures(6), jax.random.split(jax.random.key(0), 6)
    everything = options.get_config().augmentation
    whole = augment({"image": images}, keys, everything)["image"]
    np.testing.assert_allclose(whole[4:], augment({"image": images[4:]}, keys[4:], everything)["image"], atol=1e-3)
    assert not np.allclose(
        augment({"image": jnp.repeat(images[:1], 2, axis=0)}, keys[:2], everything)["image"][0], whole[1]
    )


def test_augmented_values_stay_in_the_range_of_the_photograph() -> None:
    images, keys = pictures(8), jax.random.split(jax.random.key(0), 8)
    augmented = augment({"image": images}, keys, options.get_config().augmentation)["image"]
    assert augmented.min() >= images.min() - 1e-3
    assert augmented.max() <= images.max() + 1e-3


@pytest.mark.parametrize(
    "switched_on",
    [
        {"horizontal_flip": True, "vertical_flip": True},
        {"translation": 0.1},
        {"zoom": 0.2},
        {"shear": 0.2},
        {"rotation": 40.0},
    ],
)
def test_the_box_moves_with_what_it_encloses(switched_on) -> None:
    """A white ellipse is warped; the box that was its box before is its box afterwards, to a pixel."""
    height, width = 120, 90
    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    ellipse = ((rows - 50) / 22) ** 2 + ((columns - 40) / 15) ** 2 < 1
    box = jnp.array([25 / width, 28 / height, 55 / width, 72 / height])
    keys = jax.random.split(jax.random.key(1), 8)
    images = jnp.repeat(jnp.asarray(ellipse, jnp.float32)[None, ..., None], 8, axis=0)
    moved = augment({"image": images, "box": jnp.repeat(box[None], 8, axis=0)}, keys, augmentation(**switched_on))
    for image, where in zip(moved["image"], moved["box"], strict=True):
        expected = bounding_box(np.asarray(image[..., 0]) > 0.5)
        sides = np.array([width, height, width, height])
        np.testing.assert_allclose(where * sides, np.array(expected) * sides, atol=1.5)
    assert not np.allclose(moved["box"][0], moved["box"][1])


@pytest.mark.parametrize("option", ["color_jitter", "hue", "saturation", "blur", "cutout", "mixup", "cutmix"])
def test_every_option_changes_images_by_itself(option: str) -> None:
    images, keys = pictures(4), jax.random.split(jax.random.key(2), 4)
    batch = {"image": images, "label": jnp.arange(4), "mask": jnp.ones(4, bool)}
    changed = augment(batch, keys, augmentation(**{option: 0.5}))
    assert changed["image"].shape == images.shape
    assert not np.allclose(changed["image"], images, atol=1)
    assert ("own_part" in changed) == (option in ("mixup", "cutmix"))


def test_streams_of_random_numbers_are_distinct() -> None:
    streams = [transform.stream for transform in PIXEL_TRANSFORMS]
    assert len({*streams, 7, 12}) == len(streams) + 2
    assert min(streams) >= 5
