"""What a network costs: parameters and arithmetic, without computing anything."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn


class Cost(NamedTuple):
    """Of one image in evaluation.

    Attributes:
      output_shape: of the first output, without the batch.
      parameters: how many numbers are learned; running statistics are not counted.
      flops: multiplications and additions as XLA counts them before it optimises; it leaves out those with padding.
    """

    output_shape: tuple[int, ...]
    parameters: int
    flops: float


def forward_cost(module: nn.Module, image_size: tuple[int, int]) -> Cost:
    """The cost of a network of `models`, which returns (output, end points), for RGB images of (height, width)."""
    image = jax.ShapeDtypeStruct((1, *image_size, 3), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), image)
    lowered = jax.jit(lambda variables, image: module.apply(variables, image)[0]).lower(variables, image)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    analysis = lowered.cost_analysis()
    assert analysis is not None  # XLA analyses every program that is not compiled yet
    return Cost(lowered.out_info.shape[1:], parameters, analysis["flops"])
