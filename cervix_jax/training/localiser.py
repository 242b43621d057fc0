"""A trained localiser: photographs to the box around the cervix, for whoever crops to it.

It is restored from its work directory, or from the copy that a run keeps which was trained on its crops: a run carries
its localiser, so that prediction needs nothing but the run.
"""

import dataclasses
import hashlib
import json
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import safetensors.numpy
from jaxtyping import Array, Float, Float32, UInt8
from PIL import Image

from cervix_jax import config as options
from cervix_jax.atomic import write_atomic
from cervix_jax.images.boxes import LocatedBox, mirrored
from cervix_jax.images.geometry import CropResize
from cervix_jax.models.classifier import Classifier, make_classifier
from cervix_jax.runs import RunError, read_record
from cervix_jax.training.checkpoints import Checkpoints, read_checkpoints
from cervix_jax.training.forward import Forward, ImageSequence
from cervix_jax.training.initialisation import init_variables
from cervix_jax.training.state import Variables, flatten_variables, unflatten_variables

WEIGHTS, RECORD = "localiser.safetensors", "localiser.json"
_BATCH = 32


@dataclasses.dataclass(frozen=True, eq=False)
class Localiser:
    """Finds the cervix.

    Attributes:
      config: the options that it was trained with.
      record: what its checkpoint records: fingerprint of the data, epoch, validation loss.
      model: the network.
      variables: its parameters and statistics, on this process's first device.
    """

    config: ml_collections.ConfigDict
    record: dict[str, Any]
    model: Classifier
    variables: Variables

    @classmethod
    def restore(cls, workdir: Path) -> "Localiser":
        """The best checkpoint of a run of `config.task='localise'`; of its moving average, where it kept one.

        Raises:
          RunError: the folder holds no run, or one that looks for no box.
          CheckpointError: no epoch has been finished.
        """
        read_record(workdir)

        def read(checkpoints: Checkpoints) -> "Localiser":
            item = "averaged" if checkpoints.has_average else "variables"
            step = checkpoints.best(item)
            record = checkpoints.record(step)
            config, model = _network(workdir, record["config"])
            sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
            variables = checkpoints.restore_variables(step, _template(config, model), sharding, item)
            record = {"config": record["config"], "metrics": checkpoints.metrics(step)} | {
                name: record[name] for name in ("data_fingerprint", "epoch")
            }
            return cls(config, record, model, variables)

        return read_checkpoints(workdir, read)

    @classmethod
    def load(cls, folder: Path) -> "Localiser | None":
        """The copy that `save` wrote into a folder; None if there is none."""
        if not (folder / RECORD).exists():
            return None
        try:
            record = json.loads((folder / RECORD).read_text())
            checksums = record.pop("sha256", None)  # copies of older versions have none
            config, model = _network(folder, record["config"])
            raw = (folder / WEIGHTS).read_bytes()
            variables = unflatten_variables(safetensors.numpy.load(raw))
            if checksums is None:
                is_whole = jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, _template(config, model))
            else:
                is_whole = checksums == _checksums(record, raw)
        except Exception as error:  # as many kinds as there are ways to damage it
            raise RunError(f"{folder} cannot be read as a localiser: one of its files is missing or damaged") from error
        if not is_whole:
            raise RunError(f"{folder / WEIGHTS} does not fit {folder / RECORD}: one of them is damaged")
        return cls(config, record, model, jax.device_put(variables, jax.local_devices()[0]))

    def save(self, folder: Path) -> None:
        """Writes weights and record, for `load`."""
        raw = safetensors.numpy.save(flatten_variables(self.variables))
        write_atomic(folder / WEIGHTS, raw)
        record = self.record | {"sha256": _checksums(self.record, raw)}
        write_atomic(folder / RECORD, json.dumps(record, indent=2) + "\n")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Localiser) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def digest(self) -> str:
        """Tells localisers apart; the same wherever they lie."""
        return hashlib.sha256(json.dumps(self.record, sort_keys=True).encode()).hexdigest()[:12]

    def check_data(self, fingerprint: str) -> None:
        """Raises RunError if the data set with this fingerprint is not the one that it was trained on."""
        if fingerprint != self.record["data_fingerprint"]:
            raise RunError("the localiser was trained on other photographs than the prepared data set holds")

    @cached_property
    def transform(self) -> CropResize:
        """Photograph -> network input."""
        return CropResize.from_config(self.config.dataset)

    def locate(self, images: ImageSequence) -> tuple[Float32[np.ndarray, "n 4"], Float32[np.ndarray, "n"]]:
        """Boxes and how sure they are.

        Args:
          images: by `transform`.

        Returns:
          Left, top, right, bottom as fractions of the photograph; and the expected IoU with the box that a person would
          draw, 0 to 1: the confidence.
        """
        rows = []
        for start in range(0, len(images), _BATCH):
            part = np.stack([images[i] for i in range(start, min(start + _BATCH, len(images)))])
            padded = np.zeros((_BATCH if len(images) > 1 else 1, *part.shape[1:]), np.uint8)
            padded[: len(part)] = part
            rows.append(np.asarray(self._forward(self.variables, jax.device_put(padded)))[: len(part)])
        found = np.concatenate(rows)
        return found[:, :4], found[:, 4]

    def locate_one(self, image: UInt8[np.ndarray, "h w 3"] | Image.Image) -> LocatedBox:
        """The box in one photograph; see `locate`.

        Args:
          image: a photograph, or the network input that `transform` makes of it.
        """
        pixels = self.transform(image) if isinstance(image, Image.Image) else image
        boxes, confidence = self.locate(pixels[None])
        left, top, right, bottom = boxes[0].tolist()
        return LocatedBox((left, top, right, bottom), float(confidence[0]))

    def forward(self, variables: Variables, images: Array) -> Float[Array, "b 5"]:
        """Boxes within the photograph and their confidence: the mean over the photograph and its mirror image.

        Args:
          variables: like `self.variables`.
          images: uint8 RGB [b h w 3], by `transform`.
        """
        views = jnp.concatenate([images, images[:, :, ::-1]])
        straight, mirror = jnp.split(self.model.apply(variables, views)[0], 2)
        boxes = jnp.clip((straight[:, :4] + mirrored(mirror[:, :4], horizontal=True)) / 2, 0, 1)
        confidence = jax.nn.sigmoid((straight[:, 4:] + mirror[:, 4:]) / 2)
        return jnp.concatenate([boxes, confidence], axis=1)

    @cached_property
    def _forward(self) -> Forward:
        return jax.jit(self.forward)


def _checksums(record: dict[str, Any], weights: bytes) -> dict[str, str]:
    text = json.dumps(record, sort_keys=True).encode()
    return {name: hashlib.sha256(content).hexdigest() for name, content in {"record": text, "weights": weights}.items()}


def _network(folder: Path, recorded: dict[str, Any]) -> tuple[ml_collections.ConfigDict, Classifier]:
    """Config and model.

    Raises:
      RunError: the run in the folder looks for no box.
    """
    config = options.unflatten(options.flatten(recorded))
    if config.task != "localise":
        raise RunError(f"{folder} is no localiser; train one with --config=configs/localiser.py")
    return config, make_classifier(config.model.to_dict())


def _template(config: ml_collections.ConfigDict, model: Classifier) -> Variables:
    """Shapes and dtypes of a model's variables; takes a third of a second to trace."""
    return jax.eval_shape(partial(init_variables, model, tuple(config.dataset.image_size), seed=0))
