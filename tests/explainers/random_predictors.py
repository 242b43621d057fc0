"""Predictors with random weights, made without training: explanations need a network, not a good one."""

from functools import cache
from pathlib import Path

import jax
import numpy as np

from cervix_jax import config as options
from cervix_jax.inference.member import Member
from cervix_jax.inference.predictor import Predictor
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.models.classifier import make_classifier
from cervix_jax.training.forward import make_forward_with_features
from cervix_jax.training.initialisation import init_variables
from cervix_jax.training.mesh import make_mesh

TINY = {
    "dataset.image_size": (24, 16),
    "model.backbone.name": "none",
    "model.widths": (8, 8),
    "model.blocks": (1, 1),
}


@cache  # so that tests share compiled programs
def make_member(seed: int = 0, loss: float = 0.8, class_names=CLASS_NAMES, **changes) -> Member:
    config = options.unflatten(TINY | {name.replace("__", "."): value for name, value in changes.items()})
    model = make_classifier(config.model.to_dict(), len(class_names))
    variables = jax.jit(init_variables, static_argnums=(0, 1, 2))(model, tuple(config.dataset.image_size), seed)
    record = {"class_names": list(class_names), "epoch": 1}
    return Member(
        Path(f"net{seed}"), config, record, "raw", loss, model, variables, make_forward_with_features(model), None
    )


def make_predictor(*members: Member, rule: str = "report") -> Predictor:
    return Predictor(members, rule, (), make_mesh())


def random_pictures(seed: int, size=(24, 16), n: int = 2) -> np.ndarray:
    """Smooth random pictures, uint8 [n h w 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, -(-size[0] // 4), -(-size[1] // 4), 3))
    return coarse.repeat(4, axis=1).repeat(4, axis=2)[:, : size[0], : size[1]].astype(np.uint8)
