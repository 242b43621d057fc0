"""Inception-v3 up to its last feature map, `mixed10`.

Szegedy et al. 2016 (arXiv:1512.00567, section 6 and table 1) as `keras.applications` has it: convolutions without
biases, batch norms without scales, epsilon 1e-3, pixels from -1 to 1. Layers are named as in Keras' published weights,
from `conv2d_1`, `batch_normalization_1` and `activation_1` on (today's Keras starts at `conv2d`, 0). They are numbered
in the order of Keras' `model.layers`: by their distance from the output, then as they were made.
"""

from typing import Any

from cervix_jax.models.backbones.spec import TF, Architecture, Layer, PretrainedWeights

Size = tuple[int, int]
Chain = list[tuple[int, Size]]  # features and window size of consecutive convolutions


class _Table:
    """Layers in the order in which Keras makes them, with its automatic names: numbered by kind."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.stage = "stem"
        self._counts: dict[str, int] = {}

    def add(self, kind: Any, sources: tuple[str, ...], prefix: str, **attributes: Any) -> str:
        self._counts[prefix] = number = self._counts.get(prefix, 0) + 1
        name = prefix if prefix.startswith("mixed") else f"{prefix}_{number}"
        self.layers.append(Layer(name, kind, sources, self.stage, **attributes))
        return name

    def conv(self, x: str, features: int, size: Size, stride: int = 1, *, valid: bool = False) -> str:
        """Convolution, batch norm, ReLU; padded so that the size stays, unless `valid`."""
        padding = (0, 0) if valid else (size[0] // 2, size[1] // 2)
        x = self.add("conv", (x,), "conv2d", features=features, size=size, stride=stride, padding=padding)
        return self.add("relu", (self.add("bn", (x,), "batch_normalization"),), "activation")

    def chain(self, x: str, convolutions: Chain) -> str:
        for features, size in convolutions:
            x = self.conv(x, features, size)
        return x

    def max_pool(self, x: str) -> str:
        return self.add("max_pool", (x,), "max_pooling2d", size=(3, 3), stride=2)

    def pool_branch(self, x: str, features: int) -> str:
        """3x3 average pooling, then a 1x1 convolution."""
        x = self.add("average_pool", (x,), "average_pooling2d", size=(3, 3), padding=(1, 1))
        return self.conv(x, features, (1, 1))

    def concatenate(self, branches: list[str], name: str = "concatenate") -> str:
        return self.add("concatenate", tuple(branches), name)


def _layers() -> tuple[Layer, ...]:
    t = _Table()
    x = t.conv("", 32, (3, 3), 2, valid=True)
    x = t.conv(x, 32, (3, 3), valid=True)
    x = t.max_pool(t.conv(x, 64, (3, 3)))
    x = t.conv(x, 80, (1, 1))
    x = t.max_pool(t.conv(x, 192, (3, 3), valid=True))
    for block, pool_features in enumerate((32, 64, 64)):
        t.stage = f"mixed{block}"
        branches = [t.conv(x, 64, (1, 1)), t.chain(x, [(48, (1, 1)), (64, (5, 5))])]
        branches.append(t.chain(x, [(64, (1, 1)), (96, (3, 3)), (96, (3, 3))]))
        x = t.concatenate([*branches, t.pool_branch(x, pool_features)], t.stage)
    t.stage = "mixed3"
    conv_branch = t.conv(x, 384, (3, 3), 2, valid=True)
    deep_branch = t.conv(t.chain(x, [(64, (1, 1)), (96, (3, 3))]), 96, (3, 3), 2, valid=True)
    x = t.concatenate([conv_branch, deep_branch, t.max_pool(x)], "mixed3")
    row, column = (1, 7), (7, 1)  # a 7x7 in two factors (section 3.2)
    for block, width in enumerate((128, 160, 160, 192), start=4):
        t.stage = f"mixed{block}"
        branches = [t.conv(x, 192, (1, 1)), t.chain(x, [(width, (1, 1)), (width, row), (192, column)])]
        twice: Chain = [(width, column), (width, row), (width, column), (192, row)]
        branches.append(t.chain(x, [(width, (1, 1)), *twice]))
        x = t.concatenate([*branches, t.pool_branch(x, 192)], t.stage)
    t.stage = "mixed8"
    conv_branch = t.conv(t.conv(x, 192, (1, 1)), 320, (3, 3), 2, valid=True)
    deep_branch = t.conv(t.chain(x, [(192, (1, 1)), (192, row), (192, column)]), 192, (3, 3), 2, valid=True)
    x = t.concatenate([conv_branch, deep_branch, t.max_pool(x)], "mixed8")
    for block in (0, 1):
        t.stage = f"mixed{9 + block}"
        branches = [t.conv(x, 320, (1, 1))]
        y = t.conv(x, 384, (1, 1))
        branches.append(t.concatenate([t.conv(y, 384, (1, 3)), t.conv(y, 384, (3, 1))], f"mixed9_{block}"))
        y = t.chain(x, [(448, (1, 1)), (384, (3, 3))])
        branches.append(t.concatenate([t.conv(y, 384, (1, 3)), t.conv(y, 384, (3, 1))]))
        x = t.concatenate([*branches, t.pool_branch(x, 192)], t.stage)
    return _in_keras_order(t.layers)


def _in_keras_order(layers: list[Layer]) -> tuple[Layer, ...]:
    """Sorted by the longest path to the output, then as they were made."""
    distance = {layer.name: 0 for layer in layers}
    for layer in reversed(layers):
        for source in layer.sources:
            distance[source] = max(distance.get(source, 0), distance[layer.name] + 1)
    return tuple(sorted(layers, key=lambda layer: -distance[layer.name]))


INCEPTION_V3 = Architecture(
    title="Inception-v3",
    layers=_layers(),
    first_number=1,
    conv_bias=False,
    norm_scale=False,
    epsilon=1e-3,
    weights=PretrainedWeights(
        url="https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/"
        "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        sha256="9617109a16463f250180008f9818336b767bdf5164315e8cd5761a8c34caa62a",
        file_name="inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        num_bytes=87_910_968,
        format="keras_h5",
        preprocessing=TF,
    ),
)
