"""What explanation methods have in common: a score function, images, maps, and what a registry says of a method."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

from jaxtyping import Array, Float, PyTree

Images: TypeAlias = PyTree[Float[Array, "b _ _ 3"]]  # float32 RGB, 0 to 255: an array or a pytree of arrays
Gradients: TypeAlias = PyTree[Float[Array, "b _ _ 3"]]
Maps: TypeAlias = PyTree[Float[Array, "b _ _"]]
# Any differentiable function from images to one number an example. Each example's score must depend on that example
# alone, so that one gradient of the sum gives those of all.
Score = Callable[[Any], Float[Array, "b"]]


@dataclasses.dataclass(frozen=True)
class Method:
    """An explanation method, declared beside its algorithm and listed in `methods.METHODS`.

    Attributes:
      title: for figures.
      maps: (score, images, random key) -> `Maps`, none negative; jittable.
      keep_sum: values are parts of the score, or its derivative by a pixel, which grow as pixels get fewer: resizing a
        map keeps its sum. False: values are changes of the score at a place, which resizing keeps.
      reads_layers: the score has to be a `PredictorScore` with layers.
    """

    title: str
    maps: Callable[[Any, Any, Any], Any]
    keep_sum: bool = True
    reads_layers: bool = False
