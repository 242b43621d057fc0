"""A trained run as a function from photographs to probabilities.

All that prediction needs is in the checkpoint: the model's options and variables, class names, preprocessing, and how
photographs are cropped and resized. So a photograph is seen exactly as the run saw its own.
"""

import dataclasses
import os
from functools import partial
from pathlib import Path

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, UInt8

from cervix_jax import config as options
from cervix_jax.data.photographs import crop_and_resize, read_photograph
from cervix_jax.models.classifier import make_classifier
from cervix_jax.runs import read_record
from cervix_jax.training.checkpoints import Checkpoints
from cervix_jax.training.evaluation import Forward, all_logits
from cervix_jax.training.initialisation import init_variables
from cervix_jax.training.mesh import make_mesh, replicated
from cervix_jax.training.metrics import softmax
from cervix_jax.training.state import Variables
from cervix_jax.training.step import make_forward


@dataclasses.dataclass(frozen=True)
class Predictor:
    """The best checkpoint of a run.

    Attributes:
      config: the run's options.
      class_names: of the columns of the probabilities.
      class_shares: of the run's training images; a prediction that knows nothing of the photograph.
      epoch: the epoch that the checkpoint was saved after, from 1.
    """

    config: ml_collections.ConfigDict
    class_names: tuple[str, ...]
    class_shares: tuple[float, ...]
    epoch: int
    _forward: Forward
    _variables: Variables
    _mesh: Mesh

    @classmethod
    def restore(cls, workdir: Path) -> "Predictor":
        """Restores the checkpoint of least validation loss onto this process's devices.

        Raises:
          RunError: the folder holds no run.
          CheckpointError: no epoch has been finished.
        """
        read_record(workdir)
        mesh = make_mesh()
        with Checkpoints.open(workdir) as checkpoints:
            step = checkpoints.best()
            record = checkpoints.record(step)
            config = options.unflatten(options.flatten(record["config"]))
            model = make_classifier(config.model.to_dict(), len(record["class_names"]))
            template = jax.eval_shape(partial(init_variables, model, tuple(config.dataset.image_size), seed=0))
            variables = checkpoints.restore_variables(step, template, replicated(mesh))
        return cls(
            config=config,
            class_names=tuple(record["class_names"]),
            class_shares=tuple(record["class_shares"]),
            epoch=record["epoch"],
            _forward=make_forward(model),
            _variables=variables,
            _mesh=mesh,
        )

    def read(self, source: str | os.PathLike[str] | bytes) -> UInt8[np.ndarray, "h w 3"]:
        """One photograph as the network sees it.

        Raises:
          UnreadableError: it is none.
        """
        size = tuple(self.config.dataset.image_size)
        image = read_photograph(source, min_size=size)
        return crop_and_resize(image, size, crop=self.config.dataset.crop, resize=self.config.dataset.resize)

    def probabilities(self, images: UInt8[np.ndarray, "n h w 3"], batch_size: int = 32) -> Float[np.ndarray, "n k"]:
        """Probabilities of the classes in float64, rows summing to one; the last batch is filled up with zeros."""
        batches = []
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            padding = ((0, batch_size - len(part)), (0, 0), (0, 0), (0, 0))
            batches.append({"image": np.pad(part, padding), "mask": np.arange(batch_size) < len(part)})
        return softmax(all_logits(self._forward, self._variables, batches, self._mesh))
