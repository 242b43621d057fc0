"""The preprocessing that belongs to pretrained weights: they are only right with the pixels they were trained on."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What the weights were trained on: channel order, mean, standard deviation.

    Attributes:
        name: its key in `PREPROCESSING`.
        channel_order: 'RGB' or 'BGR', what the network reads.
        mean: subtracted, in that order, on the scale 0 to 255.
        std: divided by, likewise.
    """

    name: str
    channel_order: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.channel_order not in ("RGB", "BGR"):
            raise ValueError(f"channel order is 'RGB' or 'BGR', not {self.channel_order!r}")

    def __call__(self, images: Float[Array, "*b h w 3"]) -> Float[Array, "*b h w 3"]:
        """Turns RGB images on the scale 0 to 255 into what the network reads, in the same dtype."""
        if self.channel_order == "BGR":
            images = images[..., ::-1]
        return (images - jnp.asarray(self.mean, images.dtype)) / jnp.asarray(self.std, images.dtype)


# Keras' `imagenet_utils.preprocess_input` has the first three under these names.
PREPROCESSING: dict[str, Preprocessing] = {
    p.name: p
    for p in (
        Preprocessing("caffe", "BGR", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
        Preprocessing("torch", "RGB", (0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255)),
        Preprocessing("tf", "RGB", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
        Preprocessing("identity", "RGB", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    )
}
