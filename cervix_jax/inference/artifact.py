"""A run for others: weights, a compiled-on-arrival function, and a card that says what it is and is not for.

The function is an artefact of `jax.export`: JAX runs it on CPU, GPU or TPU without this software. It takes the weights,
by their names in the safetensors file, and a batch of any size of photographs at the run's size, and gives calibrated
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
from cervix_jax.errors import UserError
from cervix_jax.inference import card
from cervix_jax.inference.calibration import Calibration
from cervix_jax.inference.predictor import Predictor
from cervix_jax.inference.tta import transforms

WEIGHTS, FUNCTION, CARD, PAGE = "model.safetensors", "predict.jax_export", "card.json", "README.md"
PLATFORMS = ("cpu", "cuda", "tpu")


class ExportError(UserError):
    """What cannot be exported; the message says why."""


def export(
    predictor: Predictor, calibration: Calibration | None, metrics: Mapping[str, Any], folder: Path
) -> dict[str, str]:
    """Writes weights, function, card and its page; returns their paths.

    Args:
      predictor: one run, uncalibrated.
      calibration: of it, if there is one.
      metrics: `inference.evaluation.evaluate` of the validation split, for the card.
      folder: made if missing.

    Raises:
      ExportError: several runs.
    """
    check_exportable(predictor)
    member = predictor.members[0]
    temperature = calibration.temperature if calibration else 1.0
    weights = flat_weights(member.variables)
    function = jax.jit(serving_function(predictor, temperature))
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *member.view.size, 3), jnp.uint8)
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in weights.items()}
    exported = jax.export.export(function, platforms=PLATFORMS)(shapes, images)
    described = card.describe(
        predictor, runs.read_record(member.workdir), calibration, metrics, sum(x.size for x in weights.values())
    )
    files = {
        WEIGHTS: safetensors.numpy.save(weights),
        FUNCTION: bytes(exported.serialize()),
        CARD: (json.dumps(described, indent=2) + "\n").encode(),
        PAGE: card.render(described).encode(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        partial = folder / (name + ".partial")
        partial.write_bytes(content)
        partial.replace(folder / name)
    return {name: str(folder / name) for name in files}


def check_exportable(predictor: Predictor) -> None:
    """Raises ExportError if there are several runs."""
    if len(predictor.members) > 1:
        raise ExportError("one run is exported at a time; give one --workdir")


def flat_weights(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Every variable by its path, such as 'params/head/logits/kernel'."""
    return {"/".join(path): np.asarray(x) for path, x in traverse_util.flatten_dict(variables).items()}


def serving_function(predictor: Predictor, temperature: float) -> Callable[[dict[str, Array], Array], Array]:
    """(weights by path, uint8 RGB images [b h w 3]) -> float32 probabilities [b k], of the predictor's only run."""
    model, views = predictor.members[0].model, transforms(predictor.augmentations)

    def serve(weights: dict[str, Array], images: Array) -> Float[Array, "b k"]:
        by_collection = traverse_util.unflatten_dict({tuple(name.split("/")): x for name, x in weights.items()})
        variables = {name: by_collection.get(name, {}) for name in ("params", "batch_stats", "constants")}
        x = images.astype(jnp.float32)
        seen = [jax.nn.softmax(model.apply(variables, view(x))[0]) for view in views]
        mean = jnp.mean(jnp.stack(seen), axis=0)
        return jax.nn.softmax(jnp.log(jnp.maximum(mean, jnp.finfo(jnp.float32).tiny)) / temperature)

    return serve
