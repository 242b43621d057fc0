"""A run to hand on: weights, a function in StableHLO, and a model card that says what it is and is not for.

The function is serialised by `jax.export`: JAX runs it on CPU, GPU or TPU without this software. It takes the weights,
by their names in the safetensors file, and a batch of any size of photographs at the run's size, and returns calibrated
probabilities:

    import jax.export, safetensors.numpy
    predict = jax.export.deserialize(bytearray(open("predict.jax_export", "rb").read())).call
    probabilities = predict(safetensors.numpy.load_file("model.safetensors"), images)
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import traverse_util
from jaxtyping import Array, Float

from cervix_jax import runs
from cervix_jax.atomic import write_atomic
from cervix_jax.errors import UserError
from cervix_jax.inference import card
from cervix_jax.inference.calibration import apply_temperature
from cervix_jax.inference.predictor import Predictor
from cervix_jax.inference.tta import make_views

WEIGHTS, FUNCTION, CARD, PAGE = "model.safetensors", "predict.jax_export", "card.json", "README.md"
PLATFORMS = ("cpu", "cuda", "tpu")


class ExportError(UserError):
    """A predictor cannot be exported; the message says why."""


def export(predictor: Predictor, metrics: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Writes weights, function, card and its page; returns their paths by name.

    Args:
      predictor: one run, with the calibration that the function is to apply, if any.
      metrics: `inference.evaluation.evaluate` of the validation split, for the card.
      folder: made if missing.

    Raises:
      ExportError: several runs.
    """
    check_exportable(predictor)
    member = predictor.members[0]
    weights = flatten_variables(member.variables)
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *member.transform.size, 3), jnp.uint8)
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in weights.items()}
    exported = jax.export.export(jax.jit(serving_function(predictor)), platforms=PLATFORMS)(shapes, images)
    num_parameters = sum(x.size for x in weights.values())
    described = card.describe(predictor, runs.read_record(member.workdir), metrics, num_parameters)
    files: dict[str, str | bytes] = {
        WEIGHTS: safetensors.numpy.save(weights),
        FUNCTION: bytes(exported.serialize()),
        CARD: json.dumps(described, indent=2) + "\n",
        PAGE: card.render(described),
    }
    for name, content in files.items():
        write_atomic(folder / name, content)
    return {name: str(folder / name) for name in files}


def check_exportable(predictor: Predictor) -> None:
    """Raises ExportError if there are several runs."""
    if len(predictor.members) > 1:
        raise ExportError("one run is exported at a time; give one --workdir")


def flatten_variables(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Every variable by its path, such as 'params/head/logits/kernel'."""
    return {"/".join(path): np.asarray(x) for path, x in traverse_util.flatten_dict(variables).items()}


def serving_function(predictor: Predictor) -> Callable[[dict[str, Array], Array], Array]:
    """(weights by path, uint8 RGB images [b h w 3]) -> float32 probabilities [b k], of the predictor's only run."""
    model, views = predictor.members[0].model, make_views(predictor.augmentations)

    def serve(weights: dict[str, Array], images: Array) -> Float[Array, "b k"]:
        by_collection = traverse_util.unflatten_dict({tuple(name.split("/")): x for name, x in weights.items()})
        variables = {name: by_collection.get(name, {}) for name in ("params", "batch_stats", "constants")}
        x = images.astype(jnp.float32)
        probabilities = [jax.nn.softmax(model.apply(variables, view(x))[0]) for view in views]
        return apply_temperature(jnp.mean(jnp.stack(probabilities), axis=0), predictor.temperature)

    return serve
