"""ResNet-50 up to its last feature map, in its two flavours.

He et al. 2016 (arXiv:1512.03385, section 4.1 and table 1). v1 is that of `keras.applications`: the stride on a block's
first 1x1 convolution, convolutions with biases, batch-norm epsilon 1.001e-5, pixels in BGR minus their mean. v1.5 is
torchvision's: the stride on the 3x3 convolution, no biases, epsilon 1e-5, RGB by mean and standard deviation. Both name
their layers as Keras does today.
"""

from collections.abc import Iterator

from cervix_jax.models.backbones.spec import CAFFE, TORCH, Architecture, Layer, PretrainedWeights


def _layers(stride_on: int) -> Iterator[Layer]:
    """Table 1 of the paper, in the order in which Keras of 2017 listed the layers.

    So layers 3, 6, 12 and 20 are those then named `bn_conv1`, `res2a_branch2a`, `res2a_branch2c` and the activation
    before `res2b_branch2b`; 0 is the input and 1 conv1's zero padding. Today's Keras numbers them differently (it has a
    padding layer before the pool). Only the order is that of 2017, not the pool, which had no padding then.

    Args:
        stride_on: the convolution of a stage's first block that has the stride: 1 (v1) or 2 (v1.5).
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
    title="ResNet-50 v1",
    layers=tuple(_layers(stride_on=1)),
    first_number=2,
    conv_bias=True,
    norm_scale=True,
    epsilon=1.001e-5,
    weights=PretrainedWeights(
        url="https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        sha256="66c8b43daff3fcc15bc4f30e3d2a167e21a14d9c9598a5394e5516471f4af504",
        file_name="resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        num_bytes=94_765_736,
        format="keras_h5",
        preprocessing=CAFFE,
    ),
)
RESNET50_V1_5 = Architecture(
    title="ResNet-50 v1.5",
    layers=tuple(_layers(stride_on=2)),
    first_number=2,
    conv_bias=False,
    norm_scale=True,
    epsilon=1e-5,
    weights=PretrainedWeights(  # torchvision's IMAGENET1K_V1, as safetensors
        url="https://huggingface.co/timm/resnet50.tv_in1k/resolve/78f3ecfdb38e06d9b8397f662e7ab8fee96026fa/model.safetensors",
        sha256="5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
        file_name="resnet50_tv_in1k.safetensors",
        num_bytes=102_469_840,
        format="torch_safetensors",
        preprocessing=TORCH,
    ),
)
