"""The networks of our configs in Keras on TensorFlow, with weights handed over by name.

Run by `compare.py` in an environment of its own. Arrays are named by their place in our variables, joined by '/'.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

MEAN = (103.939, 116.779, 123.68)  # of BGR pixels, as Keras' weights want them
EPSILON = 1.001e-5
START = 0.2  # distance to each side that an untrained head of boxes predicts


def conv(x, name, features, kernel, stride=1, bias=False, trainable=True, padding=None, l2=0.0):
    padding = padding or ("same" if kernel > 1 and stride == 1 else "valid")
    regularizer = keras.regularizers.L2(l2) if trainable and l2 else None
    return layers.Conv2D(
        features,
        kernel,
        stride,
        padding,
        use_bias=bias,
        kernel_regularizer=regularizer,
        name=name,
        trainable=trainable,
    )(x)


def norm(x, name: str, epsilon: float = 1e-3, trainable: bool = True):
    layer = layers.BatchNormalization(momentum=0.9, epsilon=epsilon, name=name, trainable=trainable)
    return layer(x, training=None if trainable else False)


def conv_norm_relu(x, name: str, features: int, kernel: int, l2: float = 0.0):
    return layers.ReLU()(norm(conv(x, f"{name}.conv", features, kernel, l2=l2), f"{name}.norm"))


def backbone_features(images, backbone: Sequence[Mapping[str, Any]], l2: float = 0.0):
    """The output of the last of the rows of our table of layers, each of which is `trained` or not."""
    values = {"": layers.Rescaling(1.0, [-value for value in MEAN])(images[..., ::-1])}
    for layer in backbone:
        name, trained = f"backbone.{layer['name']}", layer["trained"]
        x, *rest = (values[source] for source in layer["sources"])
        if any(layer["padding"]):
            x = layers.ZeroPadding2D(layer["padding"])(x)
        match layer["kind"]:
            case "conv":
                x = conv(x, name, layer["features"], layer["size"][0], layer["stride"], True, trained, "valid", l2)
            case "bn":
                x = norm(x, name, EPSILON, trained)
            case "relu":
                x = layers.ReLU()(x)
            case "max_pool":  # of what is not negative, so that zeros pad it as well as anything
                x = layers.MaxPooling2D(layer["size"], layer["stride"])(x)
            case "add":
                x = layers.Add()([x, *rest])
        values[layer["name"]] = x
    return x if backbone[-1]["kind"] == "relu" else layers.ReLU()(x)


def network(
    size: tuple[int, int],
    backbone: Sequence[Mapping[str, Any]],
    widths: tuple[int, ...],
    blocks: tuple[int, ...],
    dropout: float,
    l2: float,
) -> keras.Model:
    """Layers are named as in our variables, with '.' for '/'.

    Args:
      size: height and width of images.
      backbone: see `backbone_features`.
      widths: of the stages of the head.
      blocks: of each stage.
      dropout: its rate.
      l2: factor of the squares of trained kernels.
    """
    inputs = keras.Input((*size, 3))
    x = backbone_features(inputs, backbone, l2)
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True), start=1):
        name = f"head.stage{stage}_reduce"
        x = layers.ZeroPadding2D(((0, x.shape[1] % 2), (0, x.shape[2] % 2)))(x)
        pooled = layers.MaxPooling2D(2)(x)
        if pooled.shape[-1] > width // 2:
            pooled = conv(pooled, f"{name}.pooled", width // 2, 1, l2=l2)
        patches = conv(x, f"{name}.patches.conv", width - pooled.shape[-1], 2, 2, l2=l2)
        x = layers.ReLU()(norm(layers.Concatenate()([pooled, patches]), f"{name}.norm"))
        for block in range(1, count + 1):
            name, quarter = f"head.stage{stage}_block{block}", width // 4
            mixed = conv_norm_relu(x, f"{name}.branches", width, 1, l2)
            one, three, five, pool = (mixed[..., i * quarter : (i + 1) * quarter] for i in range(4))
            three = conv_norm_relu(three, f"{name}.three", quarter, 3, l2)
            five = conv_norm_relu(five, f"{name}.five_a", quarter, 3, l2)
            five = conv_norm_relu(five, f"{name}.five_b", quarter, 3, l2)
            # Keras' own average leaves the zeros outside out of its count.
            pool = layers.AveragePooling2D(3, 1)(layers.ZeroPadding2D(1)(pool))
            residual = conv(
                layers.Concatenate()([one, three, five, pool]), f"{name}.project", width, 1, bias=True, l2=l2
            )
            x = layers.ReLU()(x + residual)
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    outputs = layers.Dense(3, kernel_regularizer=keras.regularizers.L2(l2), name="head.logits")(x)
    return keras.Model(inputs, outputs)


def box_network(size: tuple[int, int], backbone: Sequence[Mapping[str, Any]], width: int) -> keras.Model:
    """The network that finds the cervix: photographs to boxes, the mean over each and its mirror image."""
    ops = keras.ops
    inputs = keras.Input((*size, 3))
    x = conv_norm_relu(
        backbone_features(ops.concatenate([inputs, inputs[:, :, ::-1]]), backbone), "head.conv1", width, 1
    )
    x = x + conv_norm_relu(x, "head.conv2", width, 3)
    x = x + conv_norm_relu(x, "head.conv3", width, 3)
    context = layers.Dense(width, "relu", name="head.context")(layers.GlobalAveragePooling2D()(x))
    raw = conv(x + context[:, None, None], "head.votes", 5, 1, bias=True)
    rows, columns = raw.shape[1:3]
    y, x = np.meshgrid((np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij")
    distances = ops.softplus(raw[..., 1:] + np.log(np.expm1(START)))
    votes = distances * np.float32([-1, -1, 1, 1]) + np.stack([x, y, x, y], axis=-1).astype(np.float32)
    weights = ops.softmax(ops.reshape(raw[..., 0], (-1, rows * columns)))
    boxes = ops.sum(ops.reshape(votes, (-1, rows * columns, 4)) * weights[..., None], axis=1)
    straight, mirrored = ops.split(boxes, 2)
    back = ops.stack([1 - mirrored[:, 2], mirrored[:, 1], 1 - mirrored[:, 0], mirrored[:, 3]], axis=1)
    return keras.Model(inputs, ops.clip((straight + back) / 2, 0, 1))


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


def augment(images: np.ndarray, affines: np.ndarray) -> Any:
    """Bilinear resampling, on the device.

    Args:
      images: float32 [b h w 3].
      affines: float32 [b 2 3], from places (y, x) about the centre, in pixels, to those where to look.
    """
    b, height, width, _ = images.shape
    (yy, yx, ty), (xy, xx, tx) = np.moveaxis(affines, 0, -1)
    cy, cx = (height - 1) / 2, (width - 1) / 2
    zero = np.zeros(b, np.float32)
    transforms = np.stack(
        [xx, xy, cx + tx - xx * cx - xy * cy, yx, yy, cy + ty - yx * cx - yy * cy, zero, zero], axis=1
    )
    return keras.ops.image.affine_transform(images, transforms, "bilinear", "nearest")
