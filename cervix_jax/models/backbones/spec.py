"""The record of a backbone: its table of layers and its published weights, with all that they need.

The report puts its classifier on the first layers of a network trained on ImageNet, frozen or trained (sections 5.3 and
11), so a backbone has to match published weights layer by layer. `backbone.Backbone` walks the table and builds what a
cut needs, nothing else.
"""

import dataclasses
import difflib
import itertools
from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

from cervix_jax.errors import UserError


class EndPointError(UserError, ValueError):
    """A backbone has no layer or stage of that name or number; the message names the nearest."""


class Layer(NamedTuple):
    """One layer of a network.

    Attributes:
        name: unique in its network.
        kind: the operation.
        sources: names of the layers whose outputs it takes; '' is the image.
        stage: the group of layers with which it is trained or frozen.
        features: output channels of a convolution.
        size: height and width of the window of a convolution or a pool.
        stride: step of the window in pixels, the same down and across.
        padding: rows above and below, columns left and right. Written out, never 'SAME', which would place an odd pixel
            differently from the frameworks that the weights come from.
    """

    name: str
    kind: Literal["conv", "bn", "relu", "max_pool", "average_pool", "add", "concatenate"]
    sources: tuple[str, ...]
    stage: str
    features: int = 0
    size: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: tuple[int, int] = (0, 0)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How pixels have to be normalised for pretrained weights: as they were in training.

    Attributes:
        name: as runs record it; Keras' `imagenet_utils.preprocess_input` calls it the same.
        channel_order: of the network's input.
        mean: subtracted from each channel, in that order, on the scale 0 to 255.
        std: each channel is divided by it, likewise.
    """

    name: str
    channel_order: Literal["RGB", "BGR"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


CAFFE = Preprocessing("caffe", "BGR", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))
TORCH = Preprocessing("torch", "RGB", (0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255))
TF = Preprocessing("tf", "RGB", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))


@dataclasses.dataclass(frozen=True)
class PretrainedWeights:
    """A published file of ImageNet weights; files of the same format and names are read as well.

    Attributes:
        url: where it is downloaded from.
        sha256: of its contents, 64 hexadecimal digits.
        file_name: its name in the cache.
        num_bytes: its size.
        format: its reader, a key of `pretrained.FORMATS`.
        preprocessing: of the images that the weights were trained on.
    """

    url: str
    sha256: str
    file_name: str
    num_bytes: int
    format: Literal["keras_h5", "torch_safetensors"]
    preprocessing: Preprocessing


@dataclasses.dataclass(frozen=True, eq=False)
class Architecture:
    """A network without its classifier.

    Attributes:
        title: for messages.
        layers: in the order in which Keras numbers them.
        first_number: number of the first of them; Keras counts the input, and padding, as layers.
        conv_bias: whether convolutions have biases.
        norm_scale: whether batch norms have scales.
        epsilon: added to variances by batch norm.
        weights: its published weights.
    """

    title: str
    layers: tuple[Layer, ...]
    first_number: int
    conv_bias: bool
    norm_scale: bool
    epsilon: float
    weights: PretrainedWeights

    @property
    def end_points(self) -> tuple[str, ...]:
        """Names of all layers, in order; each is a valid cut."""
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
        if isinstance(cut, int) or (cut.isascii() and cut.isdigit()):
            index = int(cut) - self.first_number
            if 0 <= index < len(self.layers):
                return self.layers[index].name
            last = self.first_number + len(self.layers) - 1
            raise EndPointError(
                f"no layer number {cut}: layers of {self.title} to cut at are {self.first_number} to {last}"
            )
        self._check(cut, self.end_points, "layer")
        return cut

    def layers_up_to(self, cut: str | int) -> tuple[Layer, ...]:
        """The layers from which the output of a cut is computed, in order, the cut itself last."""
        last = self.end_points.index(self.end_point(cut))
        names = {self.layers[last].name}
        for layer in reversed(self.layers[: last + 1]):
            if layer.name in names:
                names.update(layer.sources)
        return tuple(layer for layer in self.layers[: last + 1] if layer.name in names)

    def least_size(self, cut: str | int) -> tuple[int, int]:
        """Height and width in pixels of the smallest image of which every layer up to a cut leaves something."""
        layers = self.layers_up_to(cut)
        height, width = (next(s for s in itertools.count(1) if _leaves_something(layers, s, axis)) for axis in (0, 1))
        return height, width

    def trained_stages(self, trainable: str | Iterable[str], cut: str | int) -> tuple[str, ...]:
        """The stages to train, of those up to a cut.

        Args:
            trainable: 'none', 'all', or names of stages, as a sequence or separated by commas.
            cut: see `end_point`.

        Raises:
            EndPointError: there is no such stage, or it lies beyond the cut.
        """
        stages = tuple(dict.fromkeys(layer.stage for layer in self.layers_up_to(cut)))
        names = [name.strip() for name in trainable.split(",")] if isinstance(trainable, str) else list(trainable)
        if names == ["none"] or not names:
            return ()
        if names == ["all"]:
            return stages
        for name in names:
            self._check(name, self.stages, "stage")
            if name not in stages:
                raise EndPointError(f"stage {name!r} lies beyond the cut at {self.end_point(cut)!r}")
        return tuple(stage for stage in stages if stage in names)

    def _check(self, name: str, names: Collection[str], noun: str) -> None:
        if name not in names:
            nearest = difflib.get_close_matches(name, names, n=1, cutoff=0)[0]
            raise EndPointError(f"no {noun} {name!r} in {self.title}; did you mean {nearest!r}?")


def _leaves_something(layers: Iterable[Layer], side: int, axis: int) -> bool:
    """Whether no output is empty, of an image whose side along an axis (0 down, 1 across) is given in pixels."""
    sides = {"": side}
    for layer in layers:
        side = min(sides[source] for source in layer.sources)
        sides[layer.name] = (side + 2 * layer.padding[axis] - layer.size[axis]) // layer.stride + 1
    return min(sides.values()) >= 1
