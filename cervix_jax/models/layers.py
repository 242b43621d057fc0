"""The layers that the heads share, and the forms of them that XLA compiles well.

A 1x1 convolution is a matrix product over channels, and a 2x2 convolution of stride 2 is a matrix product over 2x2
patches. XLA's CPU backend runs the products several times faster than the convolutions, most of all backward (the
weight gradient of a strided convolution is a dilated one), and the accelerators lose nothing: the arithmetic is the
same.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Key

from cervix_jax.models.cpu_ops import dot_general

KERNEL_INIT = nn.initializers.he_normal()


def promote_to_input_dtype(*args: Any, dtype: Any = None, inexact: bool = True) -> list[Any]:
    """In the place of `flax.linen.dtypes.promote_dtype`: a layer computes in bfloat16 if its input is.

    So half precision is chosen once, by the dtype of the image, and parameters stay as they are.
    """
    if args[0] is not None and args[0].dtype == jnp.bfloat16:
        dtype = jnp.bfloat16
    return nn.dtypes.promote_dtype(*args, dtype=dtype, inexact=inexact)


def at_least_float32(x: Array) -> Array:
    """In float32 at least: what averages over many numbers, or decides."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class EndPoints(dict[str, Array]):
    """Intermediate results of a network by name, in order.

    `perturbations[name]`, if given, is added to the intermediate result of that name, so that the gradient with respect
    to a perturbation of zeros is the gradient with respect to the intermediate result (as `flax.linen.Module.perturb`).
    """

    def __init__(self, perturbations: Mapping[str, Array] | None = None):
        super().__init__()
        self.perturbations = perturbations or {}

    def name(self, name: str, x: Array) -> Array:
        """Keeps a result under a name, and returns it to go on with."""
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


class TrainingPass(NamedTuple):
    """What a training pass knows besides its input; in evaluation there is None in its place.

    Attributes:
      dropout_keys: one random key an example; None drops nothing.
      mask: False for rows that only fill up a batch, which batch norm must not see; None if there are none.
      axis_name: of a `pmap` whose devices hold the rest of the batch; None if all of it is here.
    """

    dropout_keys: Key[Array, "b"] | None = None
    mask: Bool[Array, "b"] | None = None
    axis_name: str | None = None

    def moments(
        self, x: Float[Array, "b h w c"], near: Float[Array, "c"]
    ) -> tuple[Float[Array, "c"], Float[Array, "c"]]:
        """Mean and (biased) variance of each channel over the examples of the global batch.

        From the sums of x - `near` and of its square, in one pass and one exchange between devices. In float32 the
        variance loses digits as the mean of x - `near` is large against the spread: at 10 times the spread it is right
        to 1e-5, at 100 times to 0.3 %. About 0 that would be so throughout where the mean is far from it; about the
        running mean it is so until that has arrived, some 20 steps.

        Args:
          x: of a layer, before it is normalised.
          near: about the mean that is to be found, such as the running one.
        """
        rows = x.shape[0] if self.mask is None else self.mask.sum()
        x = x - jax.lax.stop_gradient(near)
        count, total, squares = self._everywhere(
            (jnp.asarray(rows * x.shape[1] * x.shape[2], x.dtype), self._sum(x), self._sum(jnp.square(x)))
        )
        mean = total / count
        return near + mean, jnp.maximum(squares / count - jnp.square(mean), 0)

    def _sum(self, x: Float[Array, "b h w c"]) -> Float[Array, "c"]:
        if self.mask is not None:
            x = jnp.where(self.mask[:, None, None, None], x, 0)
        return x.sum(axis=(0, 1, 2))

    def _everywhere(self, totals: Any) -> Any:
        return totals if self.axis_name is None else jax.lax.psum(totals, self.axis_name)


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) over the global batch, however it is laid out.

    Variables as in `flax.linen.BatchNorm`. Momentum is 0.9 because at 40 to 75 steps an epoch Keras' 0.99 lags behind
    the weights.

    Attributes:
      epsilon: added to variances.
      momentum: of the running statistics.
      use_scale: whether there is a scale besides the bias.
    """

    epsilon: float = 1e-3
    momentum: float = 0.9
    use_scale: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], training: TrainingPass | None) -> Float[Array, "b h w c"]:
        """Normalises by the batch, and moves the running statistics; by these if `training` is None."""
        channels = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, channels, jnp.float32) if self.use_scale else 1.0
        mean, var = running_mean.value, running_var.value
        if training is not None:
            mean, var = training.moments(at_least_float32(x), running_mean.value)
            if not self.is_initializing():
                for running, batch in ((running_mean, mean), (running_var, var)):
                    running.value = self.momentum * running.value + (1 - self.momentum) * batch
        y = (x - mean) * (jax.lax.rsqrt(var + self.epsilon) * scale) + bias
        return y.astype(x.dtype)


class Bias(nn.Module):
    """A bias for each channel: what is left of batch norm where it is switched off."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], training: TrainingPass | None) -> Float[Array, "b h w c"]:
        """Adds it, in training and in evaluation alike."""
        return x + self.param("bias", nn.initializers.zeros, x.shape[-1:], jnp.float32).astype(x.dtype)


Norm = Callable[..., nn.Module]  # BatchNorm or Bias


class ConvNormAct(nn.Module):
    """A convolution, batch norm and ReLU.

    Attributes:
      conv: makes the convolution, such as `partial(Conv3x3, 64)`.
      norm: makes the batch norm.
    """

    conv: Callable[..., nn.Module]
    norm: Norm = BatchNorm

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, training: TrainingPass | None) -> Float[Array, "b h2 w2 c2"]:
        x = self.conv(name="conv")(x)
        return nn.relu(self.norm(name="norm")(x, training))


class PatchConv(nn.Module):
    """A 2x2 convolution of stride 2 as one matrix product over patches; halves height and width.

    Odd sizes are padded with zeros at the bottom and right, as a 'SAME' convolution pads them.

    Attributes:
      features: channels of the result.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        x = _patches(x).transpose(0, 1, 3, 2, 4, 5)
        b, h, w = x.shape[:3]
        return PointwiseConv(self.features, name="conv")(x.reshape(b, h, w, -1))


def max_pool_2x2(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Largest of each 2x2 patch; odd sizes are padded with zeros at the bottom and right, so for x >= 0.

    In pairs: the gradient of a maximum over an axis divides by how many numbers equal it; where XLA computes x twice
    and rounds it differently, in the forward and in the backward pass, that is 0 / 0.
    """
    x = _patches(x)
    x = jnp.maximum(x[:, :, 0], x[:, :, 1])
    return jnp.maximum(x[:, :, :, 0], x[:, :, :, 1])


def _patches(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 2 w2 2 c"]:
    """2x2 patches; odd sizes are padded with zeros at the bottom and right."""
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c)


def average_pool_3x3(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Mean over 3x3 windows at stride 1, zeros outside, as shifted sums: first down the rows, then across."""
    h, w = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
    x = x[:, 0:h] + x[:, 1 : h + 1] + x[:, 2 : h + 2]
    x = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    return (x[:, :, 0:w] + x[:, :, 1 : w + 1] + x[:, :, 2 : w + 2]) / 9


def dropout(x: Float[Array, "b *features"], rate: float, training: TrainingPass | None) -> Float[Array, "b *features"]:
    """Drops each number with probability `rate` and scales the rest by 1 / (1 - rate) (report section 5.2).

    Args:
      x: one row an example.
      rate: probability of dropping, 0 to 1.
      training: its keys, one an example, make what is dropped independent of how a batch is laid out over devices;
        None, or no keys, drops nothing.
    """
    keys = None if training is None else training.dropout_keys
    if keys is None or rate == 0:
        return x
    keep: Any = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - rate), 0)
