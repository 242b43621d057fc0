"""ResNet-50 up to its last feature map, in its two flavours.

He et al. 2016 (arXiv:1512.03385, section 4.1 and table 1). v1 is that of `keras.applications`: the stride on a block's
first 1x1 convolution, convolutions with biases, batch-norm epsilon 1.001e-5, pixels in BGR minus their mean. v1.5 is
torchvision's: the stride on the 3x3 convolution, no biases, epsilon 1e-5, RGB by mean and standard deviation. Both name
their layers as Keras does today.
"""

from collections.abc import Iterator

from cervix_jax.models.backbones.backbone import Architecture, Layer


def _layers(stride_on: int) -> Iterator[Layer]:
    """Table 1 of the paper, in the order in which Keras of 2017 listed the layers.

    So layers 3, 6, 12 and 20 are what was then called `bn_conv1`, `res2a_branch2a`, `res2a_branch2c` and the activation
    before `res2b_branch2b`; 0 is the input and 1 conv1's zero padding. Today's Keras numbers otherwise (it has a
    padding layer before the pool). Only the order is taken from 2017, not its pool, which had no padding.
    """
    yield Layer("conv1_conv", "conv", ("",), "conv1", 64, (7, 7), 2, (3, 3))
    yield Layer("conv1_bn", "bn", ("conv1_conv",), "conv1")
    yield Layer("conv1_relu", "relu", ("conv1_bn",), "conv1")
    yield Layer("pool1_pool", "max_pool", ("conv1_relu",), "conv1", 0, (3, 3), 2, (1, 1))
    source = "pool1_pool"
    for stage, features, blocks in (("conv2", 64, 3), ("conv3", 128, 4), ("conv4", 256, 6), ("conv5", 512, 3)):
        for block in range(1, blocks + 1):
            stride = 2 if block == 1 and stage != "conv2" else 1
            yield from _block(stage, block, source, features, stride, stride_on)
            source = f"{stage}_block{block}_out"


def _block(stage: str, block: int, source: str, features: int, stride: int, stride_on: int) -> Iterator[Layer]:
    """A bottleneck (figure 5, right); the first of a stage projects its shortcut (option B)."""
    name, project = f"{stage}_block{block}", block == 1
    shortcut = f"{name}_0_bn" if project else source
    first, second = (stride, 1) if stride_on == 1 else (1, stride)
    yield Layer(f"{name}_1_conv", "conv", (source,), stage, features, stride=first)
    yield Layer(f"{name}_1_bn", "bn", (f"{name}_1_conv",), stage)
    yield Layer(f"{name}_1_relu", "relu", (f"{name}_1_bn",), stage)
    yield Layer(f"{name}_2_conv", "conv", (f"{name}_1_relu",), stage, features, (3, 3), second, (1, 1))
    yield Layer(f"{name}_2_bn", "bn", (f"{name}_2_conv",), stage)
    yield Layer(f"{name}_2_relu", "relu", (f"{name}_2_bn",), stage)
    yield Layer(f"{name}_3_conv", "conv", (f"{name}_2_relu",), stage, 4 * features)
    if project:
        yield Layer(f"{name}_0_conv", "conv", (source,), stage, 4 * features, stride=stride)
    yield Layer(f"{name}_3_bn", "bn", (f"{name}_3_conv",), stage)
    if project:
        yield Layer(f"{name}_0_bn", "bn", (f"{name}_0_conv",), stage)
    yield Layer(f"{name}_add", "add", (shortcut, f"{name}_3_bn"), stage)
    yield Layer(f"{name}_out", "relu", (f"{name}_add",), stage)


RESNET50 = Architecture(
    "ResNet-50 v1",
    tuple(_layers(stride_on=1)),
    first_number=2,
    preprocessing="caffe",
    conv_bias=True,
    norm_scale=True,
    epsilon=1.001e-5,
)
RESNET50_V1_5 = Architecture(
    "ResNet-50 v1.5",
    tuple(_layers(stride_on=2)),
    first_number=2,
    preprocessing="torch",
    conv_bias=False,
    norm_scale=True,
    epsilon=1e-5,
)
