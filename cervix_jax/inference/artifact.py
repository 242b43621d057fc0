"""A run to hand on: weights, functions in StableHLO, and a model card that says what it is and is not for.

The functions are serialised by `jax.export`: JAX runs them on CPU, GPU or TPU without this software. `predict` takes
the weights, by their names in the safetensors file, and a batch of any size of photographs at the run's size, and
returns calibrated probabilities:

    import jax.export, safetensors.numpy
    predict = jax.export.deserialize(bytearray(open("predict.jax_export", "rb").read())).call
    probabilities = predict(safetensors.numpy.load_file("model.safetensors"), images)

A run that sees photographs through a localiser has that beside it: `locate` takes whole photographs and returns boxes;
the card's code crops to them. A localiser is exported by itself in the same way.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import safetensors.numpy
from jaxtyping import Array, Float

from cervix_jax import runs
from cervix_jax.atomic import write_atomic
from cervix_jax.errors import UserError
from cervix_jax.inference import card, localiser_card
from cervix_jax.inference.calibration import apply_temperature
from cervix_jax.inference.predictor import Predictor
from cervix_jax.inference.tta import make_views
from cervix_jax.training import localiser as localisers
from cervix_jax.training.localiser import Localiser
from cervix_jax.training.state import Variables, flatten_variables, unflatten_variables

WEIGHTS, FUNCTION, LOCATE, CARD, PAGE = (
    "model.safetensors",
    "predict.jax_export",
    "locate.jax_export",
    "card.json",
    "README.md",
)
PLATFORMS = ("cpu", "cuda", "tpu")

ServingFunction = Callable[[dict[str, Array], Array], Array]  # (weights by path, uint8 RGB images [b h w 3]) -> [b k]


class ExportError(UserError):
    """A predictor cannot be exported; the message says why."""


def export(predictor: Predictor, metrics: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Writes weights, functions, card and its page; returns their paths by name.

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
    num_parameters = sum(x.size for x in weights.values())
    described = card.describe(predictor, runs.read_record(member.workdir), metrics, num_parameters)
    files: dict[str, str | bytes] = {
        WEIGHTS: safetensors.numpy.save(weights),
        FUNCTION: _serialise(serving_function(predictor), member.variables, member.transform.size),
        CARD: json.dumps(described, indent=2) + "\n",
        PAGE: card.render(described),
    }
    written = _write(files, folder)
    return written | (_write_localiser(member.localiser, folder) if member.localiser else {})


def export_localiser(localiser: Localiser, name: str, metrics: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Writes weights, function, card and its page of a localiser alone; returns their paths by name.

    Args:
      localiser: a trained one.
      name: of its work directory.
      metrics: `inference.localisation.evaluate_boxes` of the validation split, for the card.
      folder: made if missing.
    """
    described = localiser_card.describe(localiser, name, metrics)
    files: dict[str, str | bytes] = {
        CARD: json.dumps(described, indent=2) + "\n",
        PAGE: localiser_card.render(described),
    }
    return _write_localiser(localiser, folder) | _write(files, folder)


def check_exportable(predictor: Predictor) -> None:
    """Raises ExportError if there are several runs."""
    if len(predictor.members) > 1:
        raise ExportError("one run is exported at a time; give one --workdir")


def serving_function(predictor: Predictor) -> ServingFunction:
    """Images at the run's size -> float32 probabilities, of the predictor's only run."""
    model, views = predictor.members[0].model, make_views(predictor.augmentations)

    def serve(weights: dict[str, Array], images: Array) -> Float[Array, "b k"]:
        variables, x = unflatten_variables(weights), images.astype(jnp.float32)
        probabilities = [jax.nn.softmax(model.apply(variables, view(x))[0]) for view in views]
        return apply_temperature(jnp.mean(jnp.stack(probabilities), axis=0), predictor.temperature)

    return serve


def _write_localiser(localiser: Localiser, folder: Path) -> dict[str, str]:
    def locate(weights: dict[str, Array], images: Array) -> Float[Array, "b 5"]:
        return localiser.forward(unflatten_variables(weights), images)

    localiser.save(folder)
    written = {name: str(folder / name) for name in (localisers.WEIGHTS, localisers.RECORD)}
    function = _serialise(locate, localiser.variables, localiser.transform.size)
    return written | _write({LOCATE: function}, folder)


def _serialise(function: ServingFunction, variables: Variables, size: tuple[int, int]) -> bytes:
    """StableHLO of a function of weights and of a batch of any number of images of a (height, width)."""
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *size, 3), jnp.uint8)
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in flatten_variables(variables).items()}
    return bytes(jax.export.export(jax.jit(function), platforms=PLATFORMS)(shapes, images).serialize())


def _write(files: Mapping[str, str | bytes], folder: Path) -> dict[str, str]:
    for name, content in files.items():
        write_atomic(folder / name, content)
    return {name: str(folder / name) for name in files}
