"""Test-time augmentation: a network sees a photograph mirrored and cropped too, and its probabilities are averaged.

Mirrored views form a group, and the corners that are cropped are each other's mirror images: the mean does not change
when a photograph is mirrored.
"""

from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cervix_jax.errors import UserError

AUGMENTATIONS = ("flips", "crops")
CORNER = 0.9  # fraction of each side that a corner's crop keeps

View = Callable[[Array], Array]  # float images [b h w 3] -> the same shape


class UnknownAugmentationError(UserError):
    """A name that is not in AUGMENTATIONS."""


def make_views(augmentations: Collection[str]) -> list[View]:
    """Functions of a batch of images, one for each view; the first is the identity.

    Args:
      augmentations: 'flips': mirrored along both axes, 4 views; 'crops': whole and four corners of 90 % of each side,
        5 views; both: 20; none: 1.

    Raises:
      UnknownAugmentationError: another name.
    """
    if unknown := set(augmentations) - set(AUGMENTATIONS):
        raise UnknownAugmentationError(f"there is no test-time augmentation {min(unknown)!r}; there are flips, crops")
    mirrored: list[tuple[int, ...]] = [(), (1,), (2,), (1, 2)] if "flips" in augmentations else [()]
    corners: list[tuple[int, int] | None] = [None]
    if "crops" in augmentations:
        corners += [(bottom, right) for bottom in (0, 1) for right in (0, 1)]
    return [_make_view(axes, corner) for corner in corners for axes in mirrored]


def _make_view(axes: tuple[int, ...], corner: tuple[int, int] | None) -> View:
    def view(images: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
        return jnp.flip(images if corner is None else _crop_corner(images, *corner), axes)

    return view


def _crop_corner(images: Float[Array, "b h w 3"], bottom: int, right: int) -> Float[Array, "b h w 3"]:
    height, width = images.shape[1:3]
    rows, columns = max(1, round(CORNER * height)), max(1, round(CORNER * width))
    top, left = bottom * (height - rows), right * (width - columns)
    return jax.image.resize(images[:, top : top + rows, left : left + columns], images.shape, "linear")
