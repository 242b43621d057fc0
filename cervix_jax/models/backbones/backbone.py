"""The flax module of a backbone: walks a table of layers up to a cut; and the normalisation of its input."""

from collections.abc import Mapping

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cervix_jax.models.backbones.spec import Architecture, Layer, Preprocessing
from cervix_jax.models.cpu_ops import pointwise_conv, relu, spatial_conv
from cervix_jax.models.layers import KERNEL_INIT, BatchNorm, EndPoints, TrainingPass, promote_to_input_dtype


class Backbone(nn.Module):
    """A network without its classifier, built as far as its cut needs and no further.

    Parameters are flat by layer name: `params[layer]['kernel' | 'bias']` for a convolution, `params[layer]['scale' |
    'bias']` and `batch_stats[layer]['mean' | 'var']` for a batch norm.

    Attributes:
        architecture: the table of layers.
        cut: name or number of the last layer.
        trained: stages whose batch norms use the batch's statistics in training, and update the running ones. The
            other stages are frozen: their batch norms use the running statistics and leave them unchanged. Frozen
            parameters still have gradients, and so do the pixels; it is the caller that does not update them.
        frozen_norm: batch norms of trained stages use the running statistics too; their scales and biases are trained.
    """

    architecture: Architecture
    cut: str | int
    trained: tuple[str, ...] = ()
    frozen_norm: bool = False

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
            images: normalised by `preprocess`; if in bfloat16, everything but batch statistics is computed in bfloat16.
            training: None in evaluation.
            perturbations: see `EndPoints`.

        Returns:
            The feature map at the cut, and the outputs of all layers up to it, itself included, by name.

        Raises:
            EndPointError: there is no such layer.
        """
        points = EndPoints(perturbations)
        for layer in self.architecture.layers_up_to(self.cut):
            inputs = [points[source] if source else images for source in layer.sources]
            adapts = layer.stage in self.trained and not self.frozen_norm
            x = points.name(layer.name, self._apply(layer, inputs, training if adapts else None))
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
                # Padding with zeros (Keras) or -inf (flax) is the same after a ReLU, as every window holds a pixel.
                return nn.max_pool(x, layer.size, strides=stride, padding=padding)
            case "average_pool":
                return nn.avg_pool(x, layer.size, strides=stride, padding=padding, count_include_pad=False)
            case "relu":
                return relu(x)
            case "add":
                return inputs[0] + inputs[1]
            case "concatenate":
                return jnp.concatenate(inputs, axis=-1)


def preprocess(images: Float[Array, "*b h w 3"], preprocessing: Preprocessing) -> Float[Array, "*b h w 3"]:
    """Normalises RGB images on the scale 0 to 255 as pretrained weights need it; the dtype stays."""
    if preprocessing.channel_order == "BGR":
        images = images[..., ::-1]
    return (images - jnp.asarray(preprocessing.mean, images.dtype)) / jnp.asarray(preprocessing.std, images.dtype)
