"""The network of `configs/report.py` in Keras on TensorFlow, with weights handed over by name.

Run by `compare.py` in an environment of its own. Arrays are named by their place in our variables, joined by '/'.
"""

from collections.abc import Mapping

import keras
import numpy as np
from keras import layers

MEAN = (103.939, 116.779, 123.68)  # of BGR pixels, as Keras' weights want them


def network(
    size: tuple[int, int], cut: int, widths: tuple[int, ...], blocks: tuple[int, ...], dropout: float, l2: float
) -> keras.Model:
    """Layers are named as in our variables, with '.' for '/'; the first 3 layers of ResNet-50 frozen, or 20 trained."""
    regularizer = keras.regularizers.L2(l2)
    frozen = cut == 3

    def conv(x, name: str, features: int, kernel: int, stride: int = 1, bias: bool = False, trainable: bool = True):
        padding = "same" if kernel > 1 and stride == 1 else "valid"
        return layers.Conv2D(
            features,
            kernel,
            stride,
            padding,
            use_bias=bias,
            kernel_regularizer=regularizer if trainable else None,
            name=name,
            trainable=trainable,
        )(x)

    def norm(x, name: str, epsilon: float = 1e-3, trainable: bool = True):
        layer = layers.BatchNormalization(momentum=0.9, epsilon=epsilon, name=name, trainable=trainable)
        return layer(x, training=None if trainable else False)

    def conv_norm_relu(x, name: str, features: int, kernel: int):
        return layers.ReLU()(norm(conv(x, f"{name}.conv", features, kernel), f"{name}.norm"))

    def bottleneck_conv(x, name: str, features: int, kernel: int):
        x = conv(x, f"backbone.{name}_conv", features, kernel, bias=True)
        return norm(x, f"backbone.{name}_bn", 1.001e-5)

    inputs = keras.Input((*size, 3))
    x = layers.Rescaling(1.0, [-value for value in MEAN])(inputs[..., ::-1])
    x = conv(layers.ZeroPadding2D(3)(x), "backbone.conv1_conv", 64, 7, 2, True, not frozen)
    x = layers.ReLU()(norm(x, "backbone.conv1_bn", 1.001e-5, not frozen))
    if cut == 20:
        x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
        y = layers.ReLU()(bottleneck_conv(x, "conv2_block1_1", 64, 1))
        y = layers.ReLU()(bottleneck_conv(y, "conv2_block1_2", 64, 3))
        y = bottleneck_conv(y, "conv2_block1_3", 256, 1)
        x = layers.ReLU()(bottleneck_conv(x, "conv2_block1_0", 256, 1) + y)
        x = layers.ReLU()(bottleneck_conv(x, "conv2_block2_1", 64, 1))
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True), start=1):
        name = f"head.stage{stage}_reduce"
        x = layers.ZeroPadding2D(((0, x.shape[1] % 2), (0, x.shape[2] % 2)))(x)
        pooled = layers.MaxPooling2D(2)(x)
        if pooled.shape[-1] > width // 2:
            pooled = conv(pooled, f"{name}.pooled", width // 2, 1)
        patches = conv(x, f"{name}.patches.conv", width - pooled.shape[-1], 2, 2)
        x = layers.ReLU()(norm(layers.Concatenate()([pooled, patches]), f"{name}.norm"))
        for block in range(1, count + 1):
            name, quarter = f"head.stage{stage}_block{block}", width // 4
            mixed = conv_norm_relu(x, f"{name}.branches", width, 1)
            one, three, five, pool = (mixed[..., i * quarter : (i + 1) * quarter] for i in range(4))
            three = conv_norm_relu(three, f"{name}.three", quarter, 3)
            five = conv_norm_relu(five, f"{name}.five_a", quarter, 3)
            five = conv_norm_relu(five, f"{name}.five_b", quarter, 3)
            # Keras' own average leaves the zeros outside out of its count.
            pool = layers.AveragePooling2D(3, 1)(layers.ZeroPadding2D(1)(pool))
            residual = conv(layers.Concatenate()([one, three, five, pool]), f"{name}.project", width, 1, bias=True)
            x = layers.ReLU()(x + residual)
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    outputs = layers.Dense(3, kernel_regularizer=regularizer, name="head.logits")(x)
    return keras.Model(inputs, outputs)


def load(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Copies every array to where it belongs."""
    for layer in model.layers:
        name = layer.name.replace(".", "/")
        if isinstance(layer, layers.Conv2D):
            kernel = arrays[f"params/{name}/kernel"].reshape(layer.kernel.shape)
            layer.set_weights([kernel, arrays[f"params/{name}/bias"]] if layer.use_bias else [kernel])
        elif isinstance(layer, layers.Dense):
            layer.set_weights([arrays[f"params/{name}/kernel"], arrays[f"params/{name}/bias"]])
        elif isinstance(layer, layers.BatchNormalization):
            parts = [("params", "scale"), ("params", "bias"), ("batch_stats", "mean"), ("batch_stats", "var")]
            layer.set_weights([arrays[f"{kind}/{name}/{part}"] for kind, part in parts])
