"""Test-time augmentation: a photograph is seen mirrored and cropped too, and what the network says is averaged.

Mirrored views form a group, and the corners that are cropped are each other's mirror images: the mean does not change
when a photograph is mirrored.
"""

from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cervix_jax.errors import UserError

NAMES = ("flips", "crops")
KEPT = 0.9  # of each side, in a corner's crop

Transform = Callable[[Array], Array]


class UnknownAugmentationError(UserError):
    """A name that is not in NAMES."""


def transforms(names: Collection[str]) -> list[Transform]:
    """What is done to a batch of float images [b h w 3], once each; the first leaves it as it is.

    Args:
      names: 'flips': mirrored along both axes, 4 views; 'crops': whole and four corners of 90 % of each side, 5 views;
        both: 20; none: 1.

    Raises:
      UnknownAugmentationError: another name.
    """
    if unknown := set(names) - set(NAMES):
        raise UnknownAugmentationError(f"there is no test-time augmentation {min(unknown)!r}; there are flips, crops")
    mirrored: list[tuple[int, ...]] = [(), (1,), (2,), (1, 2)] if "flips" in names else [()]
    corners: list[tuple[int, int] | None] = [None]
    if "crops" in names:
        corners += [(bottom, right) for bottom in (0, 1) for right in (0, 1)]
    return [_transform(axes, corner) for corner in corners for axes in mirrored]


def _transform(axes: tuple[int, ...], corner: tuple[int, int] | None) -> Transform:
    def apply(images: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
        return jnp.flip(images if corner is None else _corner(images, *corner), axes)

    return apply


def _corner(images: Float[Array, "b h w 3"], bottom: int, right: int) -> Float[Array, "b h w 3"]:
    height, width = images.shape[1:3]
    rows, columns = max(1, round(KEPT * height)), max(1, round(KEPT * width))
    top, left = bottom * (height - rows), right * (width - columns)
    return jax.image.resize(images[:, top : top + rows, left : left + columns], images.shape, "linear")
