"""Layers shared by heads and backbones, written so that XLA compiles them well.

A 1x1 convolution is a matmul over channels, and a 2x2 convolution of stride 2 is a matmul over 2x2 patches, whose
gradients XLA's CPU backend computes several times faster (the weight gradient of a strided convolution is a dilated
one); accelerators lose nothing, as the arithmetic is the same.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Key

from cervix_jax.models.cpu_ops import dot_general, relu

KERNEL_INIT = nn.initializers.he_normal()


def promote_to_input_dtype(*args: Any, dtype: Any = None, inexact: bool = True) -> list[Any]:
    """Replaces `flax.linen.dtypes.promote_dtype`: a layer computes in bfloat16 if its input is bfloat16.

    So half precision is chosen once, by the dtype of the image, and parameters stay float32.
    """
    if args[0] is not None and args[0].dtype == jnp.bfloat16:
        dtype = jnp.bfloat16
    return nn.dtypes.promote_dtype(*args, dtype=dtype, inexact=inexact)


def at_least_float32(x: Array) -> Array:
    """Casts half precision to float32, for sums over many numbers and for outputs."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class EndPoints(dict[str, Array]):
    """Intermediate activations of a network by name, in order.

    `perturbations[name]`, if given, is added to the activation of that name, so that the gradient with respect to a
    perturbation of zeros is the gradient with respect to the activation (as `flax.linen.Module.perturb`).
    """

    def __init__(self, perturbations: Mapping[str, Array] | None = None):
        super().__init__()
        self.perturbations = perturbations or {}

    def name(self, name: str, x: Array) -> Array:
        """Stores an activation under a name and returns it, perturbed if a perturbation has that name."""
        self[name] = x + self.perturbations[name].astype(x.dtype) if name in self.perturbations else x
        return self[name]


# A 1x1 convolution. No bias where batch norm follows it.
BiasedPointwiseConv = partial(
    nn.Dense, kernel_init=KERNEL_INIT, dot_general=dot_general, promote_dtype=promote_to_input_dtype
)
PointwiseConv = partial(BiasedPointwiseConv, use_bias=False)

Conv3x3 = partial(
    nn.Conv,
    kernel_size=(3, 3),
    padding=((1, 1), (1, 1)),
    use_bias=False,
    kernel_init=KERNEL_INIT,
    promote_dtype=promote_to_input_dtype,
)


class TrainingPass(struct.PyTreeNode):
    """What layers need in a training pass besides their input; None takes its place in evaluation.

    Attributes:
      dropout_keys: a random key for each example; None drops nothing.
      mask: False for rows that pad the batch, which batch norm must not see; None if no row does.
      axis_name: axis of `pmap` over whose devices batch norm sums; None if `x` is the global batch, or whole groups.
      norm_groups: parts of `x`, one after another, in each of which batch norm has statistics of its own.
    """

    dropout_keys: Key[Array, "b"] | None = None
    mask: Bool[Array, "b"] | None = None
    axis_name: str | None = struct.field(pytree_node=False, default=None)
    norm_groups: int = struct.field(pytree_node=False, default=1)

    def moments(
        self, x: Float[Array, "b h w c"], center: Float[Array, "c"]
    ) -> tuple[Float[Array, "g c"], Float[Array, "g c"]]:
        """Mean and (biased) variance of each channel over the examples of each group of the global batch.

        Computed in one pass from the sums of x - `center` and of its square, with one all-reduce. In float32 the
        variance loses digits if the mean of x - `center` is large against the standard deviation: at 10 times it is
        exact to 1e-5, at 100 times to 0.3 %. With the running mean as `center` that lasts some 20 steps, until the
        running mean has caught up; with 0 it would last throughout.

        Args:
          x: activations before normalisation.
          center: an estimate of the mean, such as the running mean.
        """
        rows = x.shape[0] if self.mask is None else self.mask.sum()  # only batches without groups are padded
        x = x - jax.lax.stop_gradient(center)
        positions = rows * x.shape[1] * x.shape[2] / self.norm_groups
        sums = (jnp.asarray(positions, x.dtype), self._sum(x), self._sum(jnp.square(x)))
        if self.axis_name is not None:
            sums = jax.lax.psum(sums, self.axis_name)
        count, total, squares = sums
        mean = total / count
        return center + mean, jnp.maximum(squares / count - jnp.square(mean), 0)

    def of_examples(self, values: Float[Array, "g c"], count: int) -> Float[Array, "n 1 1 c"]:
        """Values of groups as those of their examples; n is 1 if there is one group, else `count`."""
        if self.norm_groups > 1:
            values = values.repeat(count // self.norm_groups, axis=0)
        return values[:, None, None]

    def _sum(self, x: Float[Array, "b h w c"]) -> Float[Array, "g c"]:
        if self.mask is not None:
            x = jnp.where(self.mask[:, None, None, None], x, 0)
        return x.reshape(self.norm_groups, -1, *x.shape[1:]).sum(axis=(1, 2, 3))


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) over a batch, or groups of it, however it is laid out over devices.

    Why not `flax.linen.BatchNorm`, whose variables it has:

    - Padded rows. Under `pmap` flax averages the devices' masked means with equal weights, which is wrong where devices
      hold unequally many padded rows, and NaN where one holds nothing else. Here sums are divided by the global count.
    - Precision at the speed of one pass. flax's fast variance is about 0 and useless in float32 where the mean is
      large; its slow one takes a second pass and a second all-reduce. Here it is about the running mean.
    - Communication. Sums, sums of squares and counts share one all-reduce, and so do their gradients.
    - Layouts. The same module computes statistics of the global batch under `jit` and `pmap`: the axis comes with the
      call, in `TrainingPass`, not with the module.

    Attributes:
      epsilon: added to variances.
      momentum: weight of the old running statistics in an update. 0.9 because at 40 to 75 steps per epoch Keras' 0.99
        lags behind the weights.
      use_scale: whether there is a scale besides the bias.
    """

    epsilon: float = 1e-3
    momentum: float = 0.9
    use_scale: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], training: TrainingPass | None) -> Float[Array, "b h w c"]:
        """Normalises by the batch's statistics and updates the running ones; by the latter if `training` is None."""
        channels = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, channels, jnp.float32) if self.use_scale else 1.0
        mean, var = running_mean.value, running_var.value
        if training is not None:
            moments = training.moments(at_least_float32(x), running_mean.value)
            mean, var = (training.of_examples(groups, len(x)) for groups in moments)
            if not self.is_initializing():
                for running, groups in zip((running_mean, running_var), moments, strict=True):
                    running.value = self.momentum * running.value + (1 - self.momentum) * groups.mean(axis=0)
        y = (x - mean) * (jax.lax.rsqrt(var + self.epsilon) * scale) + bias
        return y.astype(x.dtype)


class Bias(nn.Module):
    """A bias for each channel, in the place of a batch norm that is switched off."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], training: TrainingPass | None) -> Float[Array, "b h w c"]:
        """Adds the bias; `training` makes no difference."""
        return x + self.param("bias", nn.initializers.zeros, x.shape[-1:], jnp.float32).astype(x.dtype)


Norm = Callable[..., nn.Module]  # BatchNorm or Bias


def norm_layer(batch_norm: bool) -> Norm:
    """What normalises after a convolution: `BatchNorm`, or `Bias` without batch norm."""
    return BatchNorm if batch_norm else Bias


class ConvNormAct(nn.Module):
    """A convolution, batch norm and ReLU.

    Attributes:
      conv: makes the convolution, such as `partial(Conv3x3, 64)`.
      norm: makes the normalisation layer.
    """

    conv: Callable[..., nn.Module]
    norm: Norm = BatchNorm

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, training: TrainingPass | None) -> Float[Array, "b h2 w2 c2"]:
        x = self.conv(name="conv")(x)
        return relu(self.norm(name="norm")(x, training))


class PatchConv(nn.Module):
    """A 2x2 convolution of stride 2 as one matmul over patches; halves height and width.

    Odd sizes are padded with zeros at the bottom and right, as by 'SAME'.

    Attributes:
      features: output channels.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        x = _patches(x).transpose(0, 1, 3, 2, 4, 5)
        b, h, w = x.shape[:3]
        return PointwiseConv(self.features, name="conv")(x.reshape(b, h, w, -1))


def max_pool_2x2(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Maximum of each 2x2 patch, for x >= 0: odd sizes are padded with zeros at the bottom and right.

    By pairs, not `max` over an axis: its gradient divides by the number of elements that equal the maximum, which is
    0 / 0 where XLA computes x once in the forward and once in the backward pass and rounds differently.
    """
    x = _patches(x)
    x = jnp.maximum(x[:, :, 0], x[:, :, 1])
    return jnp.maximum(x[:, :, :, 0], x[:, :, :, 1])


def _patches(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 2 w2 2 c"]:
    """Splits into 2x2 patches; odd sizes are padded with zeros at the bottom and right."""
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c)


def average_pool_3x3(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Mean over 3x3 windows of stride 1, padded with zeros, as shifted sums: first over rows, then over columns."""
    h, w = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
    x = x[:, 0:h] + x[:, 1 : h + 1] + x[:, 2 : h + 2]
    x = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    return (x[:, :, 0:w] + x[:, :, 1 : w + 1] + x[:, :, 2 : w + 2]) / 9


def dropout(x: Float[Array, "b *features"], rate: float, training: TrainingPass | None) -> Float[Array, "b *features"]:
    """Zeroes each feature with probability `rate` and scales the others by 1 / (1 - rate) (report section 5.2).

    Args:
      x: one row per example.
      rate: at least 0 and below 1.
      training: its key for each example makes the mask independent of how the batch is laid out over devices; None, or
        no keys, drops nothing.
    """
    keys = None if training is None else training.dropout_keys
    if keys is None or rate == 0:
        return x
    keep: Any = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - rate), 0)


def drop_path(
    residual: Float[Array, "b h w c"], rate: float, training: TrainingPass | None, block: int
) -> Float[Array, "b h w c"]:
    """Zeroes a block's residual for whole examples with probability `rate`, scales the others by 1 / (1 - rate).

    Stochastic depth (Huang et al. 2016), with the scaling in training instead of in evaluation.

    Args:
      residual: one row per example.
      rate: at least 0 and below 1.
      training: see `dropout`.
      block: number of the block, so that each draws for itself.
    """
    keys = None if training is None else training.dropout_keys
    if keys is None or rate == 0:
        return residual
    keep: Any = jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, block), 1 - rate))(keys)
    return jnp.where(keep[:, None, None, None], residual / (1 - rate), 0)
