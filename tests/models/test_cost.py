"""Parameters and arithmetic against the published figures of the networks."""

import pytest

from cervix_jax.models.backbones.backbone import Backbone
from cervix_jax.models.backbones.inception_v3 import INCEPTION_V3
from cervix_jax.models.backbones.resnet import RESNET50, RESNET50_V1_5
from cervix_jax.models.cost import forward_cost


@pytest.mark.parametrize(
    ("architecture", "cut", "size", "parameters", "multiplications"),
    [
        # He et al. 2016, table 1: 3.8e9 with the classifier; keras.applications: 23,587,712 with running statistics.
        (RESNET50, "conv5_block3_out", 224, 23_587_712 - 53_120, 3.8e9),
        # torchvision: 25,557,032 and 4.09e9 with the classifier's 2,049,000 (no running statistics counted).
        (RESNET50_V1_5, "conv5_block3_out", 224, 25_557_032 - 2_049_000, 4.09e9),
        # keras.applications: 21,802,784 with running statistics; torchvision: 5.71e9.
        (INCEPTION_V3, "mixed10", 299, 21_802_784 - 34_432, 5.71e9),
    ],
    ids=["resnet50", "resnet50_v1_5", "inception_v3"],
)
def test_networks_cost_what_is_published(architecture, cut, size, parameters, multiplications) -> None:
    cost = forward_cost(Backbone(architecture, cut), (size, size))
    assert cost.parameters == parameters
    assert cost.flops == pytest.approx(2 * multiplications, rel=0.05)  # XLA leaves out what multiplies padding
    assert cost.output_shape == ({224: (7, 7), 299: (8, 8)}[size]) + (2048,)
