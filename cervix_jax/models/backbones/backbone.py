"""Backbones: networks trained on ImageNet, as tables of layers, cut at any of them.

The report puts its classifier on the first layers of such a network, frozen or trained (sections 5.3 and 11), so a
backbone has to match published weights layer by layer. An `Architecture` is one table of layers; the module walks the
table and builds what its cut needs, nothing else. Padding is written out, never 'SAME', which would place an odd pixel
differently from the frameworks that the weights come from.
"""

import dataclasses
import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cervix_jax.errors import UserError
from cervix_jax.models.cpu_ops import pointwise_conv, spatial_conv
from cervix_jax.models.layers import KERNEL_INIT, BatchNorm, EndPoints, TrainingPass, promote_to_input_dtype


class EndPointError(UserError, ValueError):
    """A backbone has no layer or stage of that name or number; the message names the nearest."""


class Layer(NamedTuple):
    """One layer of a network.

    Attributes:
        name: unique in its network.
        kind: what it computes.
        sources: names of the layers that it reads; '' is the image.
        stage: what it is trained or frozen together with.
        features: channels of a convolution.
        size: height and width of the window of a convolution or a pool.
        stride: of the window.
        padding: rows above and below, columns left and right.
    """

    name: str
    kind: Literal["conv", "bn", "relu", "max_pool", "average_pool", "add", "concatenate"]
    sources: tuple[str, ...]
    stage: str
    features: int = 0
    size: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: tuple[int, int] = (0, 0)


@dataclasses.dataclass(frozen=True, eq=False)
class Architecture:
    """A network and what belongs to its published weights.

    Attributes:
        title: for people.
        layers: in the order in which Keras numbers them.
        first_number: number of the first of them; Keras counts the input, and padding, as layers.
        preprocessing: what the weights want, a name in `preprocessing.PREPROCESSING`.
        conv_bias: convolutions have biases.
        norm_scale: batch norms have scales.
        epsilon: of batch norm.
    """

    title: str
    layers: tuple[Layer, ...]
    first_number: int
    preprocessing: str
    conv_bias: bool
    norm_scale: bool
    epsilon: float

    @property
    def end_points(self) -> tuple[str, ...]:
        """Names of all layers, in order; any is a cut."""
        return tuple(layer.name for layer in self.layers)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages, in order."""
        return tuple(dict.fromkeys(layer.stage for layer in self.layers))

    def end_point(self, cut: str | int) -> str:
        """Resolves a cut to the name of a layer.

        Numbers count as the report does, `model.layers[n]` of `keras.applications` in 2017 with the input as 0.

        Args:
            cut: a name, or a number, also written as digits.

        Raises:
            EndPointError: there is no such layer; names the nearest.
        """
        if isinstance(cut, int) or cut.isdigit():
            index = int(cut) - self.first_number
            if 0 <= index < len(self.layers):
                return self.layers[index].name
            last = self.first_number + len(self.layers) - 1
            raise EndPointError(
                f"no layer number {cut}: layers of {self.title} to cut at are {self.first_number} to {last}"
            )
        return self._known(cut, self.end_points, "layer")

    def needed(self, cut: str | int) -> tuple[Layer, ...]:
        """The layers that the output of a cut is computed from, in order, the cut itself last."""
        last = self.end_points.index(self.end_point(cut))
        names = {self.layers[last].name}
        for layer in reversed(self.layers[: last + 1]):
            if layer.name in names:
                names.update(layer.sources)
        return tuple(layer for layer in self.layers[: last + 1] if layer.name in names)

    def trained_stages(self, trainable: str | Iterable[str], cut: str | int) -> tuple[str, ...]:
        """The stages that are trained, of those that a cut needs.

        Args:
            trainable: 'none', 'all', or names of stages, as a sequence or separated by commas.
            cut: see `end_point`.

        Raises:
            EndPointError: no such stage, or none of its layers is needed.
        """
        there = tuple(dict.fromkeys(layer.stage for layer in self.needed(cut)))
        names = [name.strip() for name in trainable.split(",")] if isinstance(trainable, str) else list(trainable)
        if names == ["none"] or not names:
            return ()
        if names == ["all"]:
            return there
        for name in names:
            if self._known(name, self.stages, "stage") not in there:
                raise EndPointError(f"stage {name!r} lies beyond the cut at {self.end_point(cut)!r}")
        return tuple(stage for stage in there if stage in names)

    def _known(self, name: str, names: Collection[str], what: str) -> str:
        if name not in names:
            nearest = difflib.get_close_matches(name, names, n=1, cutoff=0)[0]
            raise EndPointError(f"no {what} {name!r} in {self.title}; did you mean {nearest!r}?")
        return name


class Backbone(nn.Module):
    """A network without its classifier, built as far as its cut needs and no further.

    Parameters are flat by layer name: `params[layer]['kernel' | 'bias']` for a convolution, `params[layer]['scale' |
    'bias']` and `batch_stats[layer]['mean' | 'var']` for a batch norm.

    Attributes:
        architecture: the table of layers.
        cut: name or number of the last layer.
        trained: stages whose batch norms use the batch's statistics in training, and update the stored ones; the others
            are frozen: stored statistics, left alone. Keeping the optimizer away from frozen parameters is the
            caller's part; gradients reach the pixels either way.
    """

    architecture: Architecture
    cut: str | int
    trained: tuple[str, ...] = ()

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "b h w 3"],
        *,
        training: TrainingPass | None = None,
        perturbations: Mapping[str, Array] | None = None,
    ) -> tuple[Float[Array, "b h2 w2 c"], dict[str, Array]]:
        """Computes the feature map at the cut.

        Args:
            images: preprocessed as the weights were trained (`architecture.preprocessing`); in bfloat16 all is computed
                in bfloat16, but for batch statistics.
            training: None in evaluation.
            perturbations: see `EndPoints`.

        Returns:
            The feature map at the cut, and every end point that it is computed from, itself included, by name.

        Raises:
            EndPointError: there is no such layer.
        """
        points = EndPoints(perturbations)
        for layer in self.architecture.needed(self.cut):
            inputs = [points[source] if source else images for source in layer.sources]
            x = points.name(layer.name, self._apply(layer, inputs, training if layer.stage in self.trained else None))
        return x, dict(points)

    def _apply(self, layer: Layer, inputs: list[Array], training: TrainingPass | None) -> Array:
        x = inputs[0]
        (top, left), stride = layer.padding, (layer.stride, layer.stride)
        padding = ((top, top), (left, left))
        match layer.kind:
            case "conv":
                return nn.Conv(
                    layer.features,
                    layer.size,
                    strides=stride,
                    padding=padding,
                    use_bias=self.architecture.conv_bias,
                    kernel_init=KERNEL_INIT,
                    promote_dtype=promote_to_input_dtype,
                    conv_general_dilated=pointwise_conv if layer.size == (1, 1) else spatial_conv,
                    name=layer.name,
                )(x)
            case "bn":
                scale, epsilon = self.architecture.norm_scale, self.architecture.epsilon
                return BatchNorm(use_scale=scale, epsilon=epsilon, name=layer.name)(x, training)
            case "max_pool":
                # Frameworks pad with zeros or -inf; after a ReLU, and as every window holds a pixel, that is the same.
                return nn.max_pool(x, layer.size, strides=stride, padding=padding)
            case "average_pool":
                return nn.avg_pool(x, layer.size, strides=stride, padding=padding, count_include_pad=False)
            case "relu":
                return nn.relu(x)
            case "add":
                return inputs[0] + inputs[1]
            case "concatenate":
                return jnp.concatenate(inputs, axis=-1)
