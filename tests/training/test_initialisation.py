"""Random variables from a seed; `models/weights/test_pretrained.py` has the backbone's from files."""

import jax
import pytest

from cervix_jax import config as options
from cervix_jax.models.classifier import make_classifier
from cervix_jax.training.initialisation import init_variables, pretrained_backbone

SMALL = {"model.widths": (8,), "model.blocks": (1,), "model.backbone.name": "none"}


def test_variables_depend_on_the_seed_alone() -> None:
    model = make_classifier(options.unflatten(SMALL).model.to_dict())
    one, again, other = (init_variables(model, (16, 24), seed) for seed in (0, 0, 1))
    assert set(one) == {"params", "batch_stats", "constants"}
    assert one["constants"]["mean_image"].shape == (16, 24, 3)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), one, again)))
    kernels = [tree["params"]["head"]["logits"]["kernel"] for tree in (one, other)]
    assert not (kernels[0] == kernels[1]).any()


def test_a_backbone_without_weights_must_be_allowed() -> None:
    backbone = options.get_config().model.backbone
    backbone.name = "resnet50"
    with pytest.raises(options.ConfigError, match="names no file"):
        pretrained_backbone({}, backbone)
    backbone.allow_random = True
    assert pretrained_backbone({}, backbone) is None
