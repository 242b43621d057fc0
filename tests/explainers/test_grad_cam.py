"""Grad-CAM against class activation maps, which define it on a network with one linear layer."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from cervix_jax.explainers.grad_cam import enlarged, grad_cam
from cervix_jax.models.backbones import BACKBONES

IMAGES = jax.random.uniform(jax.random.key(0), (2, 6, 5, 3))


class OneConvolution(nn.Module):
    """A convolution, the mean over the map, a linear layer: class activation maps are defined on this."""

    @nn.compact
    def __call__(self, x, perturbation=0.0):
        maps = nn.relu(nn.Conv(4, (3, 3))(x)) + perturbation
        return nn.Dense(3)(maps.mean(axis=(1, 2))), maps


def test_grad_cam_is_the_class_activation_map() -> None:
    """Selvaraju et al. 2017, section 3.1: on such a network it is CAM (Zhou et al. 2016), divided by the map's size."""
    net = OneConvolution()
    variables = net.init(jax.random.key(3), IMAGES)
    _, maps = net.apply(variables, IMAGES)
    kernel = variables["params"]["Dense_0"]["kernel"]
    for class_index in range(3):

        def score(perturbations, class_index=class_index):
            logits, maps = net.apply(variables, IMAGES, perturbations[0])
            return logits[:, class_index], [maps]

        (cam,) = grad_cam(score, [maps.shape])
        expected = np.maximum(np.asarray(maps @ kernel[:, class_index]), 0) / (6 * 5)
        np.testing.assert_allclose(cam, expected, rtol=1e-5, atol=1e-7)


def test_an_enlarged_map_keeps_its_sum_and_place() -> None:
    maps = np.zeros((1, 4, 3), np.float32)
    maps[0, 1, 1] = 1
    large = np.asarray(enlarged(jax.numpy.asarray(maps), (32, 24)))
    assert large.shape == (1, 32, 24)
    np.testing.assert_allclose(large.sum(), 1, rtol=1e-5)
    rows, columns = np.unravel_index(large[0].argmax(), (32, 24))
    assert (rows // 8, columns // 8) == (1, 1)
    assert enlarged(jax.numpy.asarray(maps), (31, 23)).shape == (1, 31, 23)


@pytest.mark.parametrize(
    ("backbone", "cut"),
    [
        ("resnet50", "conv1_relu"),
        ("resnet50", "conv5_block3_out"),
        *[("inception_v3", f"mixed{i}") for i in (0, 3, 10)],
    ],
)
@pytest.mark.parametrize("side", [320, 243])
def test_a_cell_lies_where_its_receptive_field_has_its_centre(backbone: str, cut: str, side: int) -> None:
    cells, stride, first = {"": side}, {"": 1}, {"": 0.0}  # of each layer, along one axis
    for layer in BACKBONES[backbone].layers_up_to(cut):
        source, pad, window = layer.sources[0], layer.padding[0], layer.size[0]
        cells[layer.name] = (cells[source] + 2 * pad - window) // layer.stride + 1
        stride[layer.name] = stride[source] * layer.stride
        first[layer.name] = first[source] + stride[source] * ((window - 1) / 2 - pad)
    middle = cells[cut] // 2
    maps = np.zeros((1, cells[cut], cells[cut]), np.float32)
    maps[0, middle, middle] = 1
    rows = np.asarray(enlarged(jax.numpy.asarray(maps), (side, side)))[0].sum(axis=1)
    assert rows.sum() == pytest.approx(1, abs=0.01)
    center = rows @ np.arange(side)
    assert abs(center - (first[cut] + middle * stride[cut])) <= max(stride[cut] / 2, 3)
