"""ResNet-50 v1 up to its last feature map, cut at any layer by its Keras name.

The report puts its classifier on the first layers of a network trained on ImageNet, so the backbone has to
match the published weights layer by layer: He et al. 2016 (arXiv:1512.03385, section 4.1 and table 1) as
keras.applications has it, which means the stride on a block's first 1x1 convolution, convolutions with
biases, batch-norm epsilon 1.001e-5.

The network is one table of layers in network order; a module walks that table up to its cut. Padding is
written out, never 'SAME', which would place an odd pixel differently from Keras.
"""

import difflib
from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cervix_jax.errors import UserError


class EndPointError(UserError, ValueError):
    """A backbone has no layer of that name or number; the message names the nearest."""


class ResNet50(nn.Module):
    """ResNet-50 v1 without its classifier, built up to `cut` and no further.

    Parameters are flat by Keras layer name: `params[layer]['kernel' | 'bias']` for a convolution,
    `params[layer]['scale' | 'bias']` and `batch_stats[layer]['mean' | 'var']` for a batch norm.

    Attributes:
        cut: name of the last layer built, one of `END_POINTS`, or a layer number (see `end_point`). Layers
            after it have no parameters.
        frozen: normalise by the stored statistics, and leave them alone, whatever `train` says. Keeping the
            optimizer away from the parameters is the caller's part: gradients reach them, and the pixels,
            either way.
        dtype: dtype of the computation; parameters and statistics stay float32.
    """

    cut: str | int = "conv5_block3_out"
    frozen: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], *, train: bool = False
    ) -> tuple[Float[Array, "b h2 w2 c"], dict[str, Array]]:
        """Computes the feature map at the cut.

        Args:
            images: preprocessed as the weights were trained (`pretrained.PREPROCESSING['caffe']` for Keras'
                own).
            train: normalise by the batch and update the running statistics, unless `frozen`.

        Returns:
            The feature map at the cut in `dtype`, and every end point up to the cut by name.

        Raises:
            EndPointError: `cut` names no layer.
        """
        cut = end_point(self.cut)
        points: dict[str, Array] = {"": jnp.asarray(images, self.dtype)}
        for layer in _LAYERS[: END_POINTS.index(cut) + 1]:
            points[layer.name] = self._apply(layer, *(points[source] for source in layer.sources), train=train)
        del points[""]
        return points[cut], points

    def _apply(self, layer: "_Layer", x: Array, *rest: Array, train: bool) -> Array:
        match layer.kind:
            case "conv":
                return nn.Conv(
                    layer.features,
                    (layer.size, layer.size),
                    strides=layer.stride,
                    padding=[(layer.size // 2, layer.size // 2)] * 2,
                    kernel_init=nn.initializers.he_normal(),
                    dtype=self.dtype,
                    name=layer.name,
                )(x)
            case "bn":
                return nn.BatchNorm(
                    use_running_average=self.frozen or not train,
                    momentum=0.9,
                    epsilon=1.001e-5,
                    use_fast_variance=False,  # E[x^2] - E[x]^2 cancels where the mean is far from zero
                    dtype=self.dtype,
                    name=layer.name,
                )(x)
            case "pool":
                # Keras pads with zeros; after a ReLU, and as every window holds a pixel, flax's -inf gives
                # the same.
                return nn.max_pool(x, (3, 3), strides=(2, 2), padding=[(1, 1), (1, 1)])
            case "relu":
                return nn.relu(x)
            case "add":
                return x + rest[0]
        raise AssertionError(layer.kind)


def end_point(cut: str | int) -> str:
    """Resolves a cut to the layer's name today.

    Numbers count as the report does, `model.layers[n]` of `keras.applications` in 2017 with the input as 0,
    so that 3, 6, 12 and 20 are what was then called `bn_conv1`, `res2a_branch2a`, `res2a_branch2c` and the
    activation before `res2b_branch2b`. The whole network is numbered: 0 (the input) and 1 (conv1's zero
    padding) are no end points, 173 is `conv5_block3_out`. Today's Keras numbers otherwise (it has a padding
    layer before the pool). Only the layer is taken from 2017, not its pool, which had no padding.

    Args:
        cut: one of `END_POINTS`, or a number from 2 to 173.

    Returns:
        The name in `END_POINTS`.

    Raises:
        EndPointError: there is no such layer; names the nearest.
    """
    if isinstance(cut, int):
        if 2 <= cut < 2 + len(END_POINTS):
            return END_POINTS[cut - 2]
        raise EndPointError(f"no layer number {cut}: layers with an output to cut at are 2 to {len(END_POINTS) + 1}")
    if cut not in END_POINTS:
        nearest = difflib.get_close_matches(cut, END_POINTS, n=1, cutoff=0)[0]
        raise EndPointError(f"no layer {cut!r} in ResNet-50; did you mean {nearest!r}?")
    return cut


class _Layer(NamedTuple):
    name: str
    kind: str
    sources: tuple[str, ...]  # '' is the image
    features: int = 0
    size: int = 1
    stride: int = 1


def _layers() -> Iterator[_Layer]:
    """Table 1 of the paper, in the order in which Keras of 2017 listed the layers."""
    yield _Layer("conv1_conv", "conv", ("",), 64, 7, 2)
    yield _Layer("conv1_bn", "bn", ("conv1_conv",))
    yield _Layer("conv1_relu", "relu", ("conv1_bn",))
    yield _Layer("pool1_pool", "pool", ("conv1_relu",))
    source = "pool1_pool"
    for stage, features, blocks in ((2, 64, 3), (3, 128, 4), (4, 256, 6), (5, 512, 3)):
        for block in range(1, blocks + 1):
            stride = 2 if block == 1 and stage > 2 else 1
            yield from _block(f"conv{stage}_block{block}", source, features, stride, project=block == 1)
            source = f"conv{stage}_block{block}_out"


def _block(block: str, source: str, features: int, stride: int, *, project: bool) -> Iterator[_Layer]:
    """A bottleneck (figure 5, right); the first of a stage projects its shortcut (option B)."""
    shortcut = f"{block}_0_bn" if project else source
    yield _Layer(f"{block}_1_conv", "conv", (source,), features, 1, stride)
    yield _Layer(f"{block}_1_bn", "bn", (f"{block}_1_conv",))
    yield _Layer(f"{block}_1_relu", "relu", (f"{block}_1_bn",))
    yield _Layer(f"{block}_2_conv", "conv", (f"{block}_1_relu",), features, 3)
    yield _Layer(f"{block}_2_bn", "bn", (f"{block}_2_conv",))
    yield _Layer(f"{block}_2_relu", "relu", (f"{block}_2_bn",))
    yield _Layer(f"{block}_3_conv", "conv", (f"{block}_2_relu",), 4 * features)
    if project:
        yield _Layer(f"{block}_0_conv", "conv", (source,), 4 * features, 1, stride)
    yield _Layer(f"{block}_3_bn", "bn", (f"{block}_3_conv",))
    if project:
        yield _Layer(f"{block}_0_bn", "bn", (f"{block}_0_conv",))
    yield _Layer(f"{block}_add", "add", (shortcut, f"{block}_3_bn"))
    yield _Layer(f"{block}_out", "relu", (f"{block}_add",))


_LAYERS: tuple[_Layer, ...] = tuple(_layers())
END_POINTS: tuple[str, ...] = tuple(layer.name for layer in _LAYERS)
