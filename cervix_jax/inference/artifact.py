"""Runs to hand on: weights, functions in StableHLO, and a model card that says what they are and are not for.

The functions are serialised by `jax.export`: JAX runs them on CPU, GPU or TPU without this software. `predict` takes
the weights, by their names in the safetensors file, and a batch of any size of photographs at the run's size, and
returns calibrated probabilities:

    import jax.export, safetensors.numpy
    predict = jax.export.deserialize(bytearray(open("predict.jax_export", "rb").read())).call
    probabilities = predict(safetensors.numpy.load_file("model.safetensors"), images)

A run that sees photographs through a localiser has that beside it: `locate` takes whole photographs and returns boxes;
the card's code crops to them. A localiser is exported by itself in the same way.

Of several runs, an ensemble or a cross-validation, the weights are those of all, each name after the number of its run,
and the function averages them. If they see photographs through localisers of their own, `images` has an axis more: each
photograph as each of them sees it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import jax.scipy.special
import numpy as np
import safetensors.numpy
from jaxtyping import Array, Float

from cervix_jax import runs
from cervix_jax.atomic import write_atomic
from cervix_jax.errors import UserError
from cervix_jax.inference import card, localiser_card
from cervix_jax.inference.predictor import Predictor
from cervix_jax.inference.tta import make_views
from cervix_jax.outputs import check_outputs
from cervix_jax.training.localiser import RECORD as LOCALISER_RECORD
from cervix_jax.training.localiser import WEIGHTS as LOCALISER_WEIGHTS
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


def check_output(folder: Path, *, overwrite: bool) -> None:
    """Raises OutputError if files would be replaced that are no export, such as another README.md."""
    names = (WEIGHTS, FUNCTION, LOCATE, CARD, PAGE, LOCALISER_WEIGHTS)
    check_outputs([folder / name for name in names], lambda path: (folder / CARD).exists(), overwrite=overwrite)


def export(predictor: Predictor, metrics: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Writes weights, functions, card and its page; returns their paths by name.

    Args:
      predictor: with the calibration that the function is to apply, if any.
      metrics: `inference.evaluation.evaluate` of the validation split, for the card.
      folder: made if missing.

    Raises:
      ExportError: runs that see photographs in different ways.
    """
    check_exportable(predictor)
    weights = exported_weights(predictor)
    num_parameters = sum(x.size for x in weights.values())
    described = card.describe(predictor, runs.read_record(predictor.members[0].workdir), metrics, num_parameters)
    size = predictor.network_inputs[0].transform.size
    shown = size if len(predictor.network_inputs) == 1 else (len(predictor.network_inputs), *size)
    files: dict[str, str | bytes] = {
        WEIGHTS: safetensors.numpy.save(weights),
        FUNCTION: _serialise(serving_function(predictor), weights, shown),
        CARD: json.dumps(described, indent=2) + "\n",
        PAGE: card.render(described),
    }
    written = _write(files, folder)
    found_by = [seen.localiser for seen in predictor.network_inputs if seen.localiser is not None]
    return written | (_write_localisers(found_by, folder) if found_by else {})


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
    return _write_localisers([localiser], folder) | _write(files, folder)


def check_exportable(predictor: Predictor) -> None:
    """Raises ExportError if runs see photographs in ways that one function cannot take."""
    inputs = predictor.network_inputs
    shapes = {None if seen.localiser is None else _shapes(seen.localiser.variables) for seen in inputs}
    if len({seen.transform for seen in inputs}) > 1 or len(shapes) > 1:
        raise ExportError(
            "these runs see photographs in different ways (size, crop or kind of localiser), which one function cannot "
            "take: export them one by one"
        )


def exported_weights(predictor: Predictor) -> dict[str, np.ndarray]:
    """Every variable by its path; of several runs after the number of its run."""
    if len(predictor.members) == 1:
        return flatten_variables(predictor.members[0].variables)
    return {
        f"{i}/{name}": x
        for i, member in enumerate(predictor.members)
        for name, x in flatten_variables(member.variables).items()
    }


def serving_function(predictor: Predictor) -> ServingFunction:
    """Weights, as `exported_weights` names them, and images at the runs' size -> float32 probabilities."""
    views, combination, calibration = make_views(predictor.augmentations), predictor.combination, predictor.calibration
    models = [member.model for member in predictor.members]
    places = [predictor.network_inputs.index(member.network_input) for member in predictor.members]

    def serve(weights: dict[str, Array], images: Array) -> Float[Array, "b k"]:
        logs = []
        for i, (model, place) in enumerate(zip(models, places, strict=True)):
            own = weights
            if len(models) > 1:
                own = {name.partition("/")[2]: x for name, x in weights.items() if name.startswith(f"{i}/")}
            x = (images if images.ndim == 4 else images[:, place]).astype(jnp.float32)
            variables = unflatten_variables(own)
            views_of_x = jnp.stack([jax.nn.log_softmax(model.apply(variables, view(x))[0]) for view in views])
            logs.append(jax.scipy.special.logsumexp(views_of_x, axis=0) - jnp.log(len(views)))
        combined = logs[0] if len(logs) == 1 else combination.log_probabilities(logs)
        return calibration.apply(jnp.exp(combined)) if calibration else jnp.exp(combined)

    return serve


def _write_localisers(localisers: Sequence[Localiser], folder: Path) -> dict[str, str]:
    """Weights and record of each, in a folder of its own if there are several, and one function for all."""
    first = localisers[0]

    def locate(weights: dict[str, Array], images: Array) -> Float[Array, "b 5"]:
        return first.forward(unflatten_variables(weights), images)

    written: dict[str, str] = {}
    for i, localiser in enumerate(localisers):
        place = "" if len(localisers) == 1 else f"localiser_{i}/"
        localiser.save(folder / place)
        written |= {f"{place}{name}": str(folder / place / name) for name in (LOCALISER_WEIGHTS, LOCALISER_RECORD)}
    function = _serialise(locate, flatten_variables(first.variables), first.transform.size)
    return written | _write({LOCATE: function}, folder)


def _serialise(function: ServingFunction, weights: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> bytes:
    """StableHLO of a function of weights and of a batch of any number of images of a shape without channels."""
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *shape, 3), jnp.uint8)
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in weights.items()}
    return bytes(jax.export.export(jax.jit(function), platforms=PLATFORMS)(shapes, images).serialize())


def _shapes(variables: Variables) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple(sorted((name, x.shape) for name, x in flatten_variables(variables).items()))


def _write(files: Mapping[str, str | bytes], folder: Path) -> dict[str, str]:
    for name, content in files.items():
        write_atomic(folder / name, content)
    return {name: str(folder / name) for name in files}
