"""From the bytes of photographs to answers: JSON for predictions, a JPEG for an explanation.

The only part of the server that knows the model. It is called from one thread (`batching.ModelThread`), and keeps
nothing of a photograph.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from cervix_jax.errors import UserError
from cervix_jax.explainers import methods
from cervix_jax.images.decode import read_photograph
from cervix_jax.images.files import UnreadableError
from cervix_jax.inference.decisions import DecisionRule, Prediction, predict
from cervix_jax.inference.photograph import Photograph
from cervix_jax.inference.predictor import Predictor
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.plots.explanation_panels import overlay

DEFAULT_METHOD = "grad_cam"  # it hits the zone most often: the table in explainers/README.md
NOTE = "Research software, not for clinical decisions."
MAX_EXPLAINED = 4_000_000  # pixels; drawing takes 100 bytes each, and only strips have more as they are stored

Answer = dict[str, Any]  # JSON of a photograph: `prediction_json`, or {"error": {"code", "message"}}


class ServiceError(UserError):
    """Runs cannot be served; the message says what they lack."""


class Service:
    """A predictor and a decision rule, as the server calls them.

    Attributes:
      predictor: one run or many, calibrated.
      rule: with a coverage, so that it can say that it does not know.
      batch_size: most photographs a step.
      site: name of the clinic whose photographs the calibration was made from; None if they are those of the training.
    """

    def __init__(self, predictor: Predictor, rule: DecisionRule, batch_size: int, site: str | None = None):
        """Checks that the predictor can be served.

        Raises:
          ServiceError: it distinguishes other classes than the three types, or the rule has no coverage.
        """
        if predictor.class_names != CLASS_NAMES:
            raise ServiceError(f"the page is for the three types, and these runs tell {predictor.class_names} apart")
        if rule.coverage is None:
            raise ServiceError("the page says when it does not know, which needs a coverage: --coverage=0.9")
        self.predictor, self.rule, self.batch_size, self.site = predictor, rule, batch_size, site

    def predict(self, files: Sequence[bytes]) -> list[Answer]:
        """What may be said of each photograph, in order.

        Args:
          files: at most `batch_size`; each the bytes of a file, from anywhere.
        """
        answers: list[Answer] = [{} for _ in files]
        photographs: dict[int, Photograph] = {}
        for i, raw in enumerate(files):
            try:
                photographs[i] = self.predictor.read(raw, with_features=True)
            except UnreadableError as error:
                answers[i] = {"error": {"code": "unreadable", "message": str(error)}}
        if photographs:
            names, read = [str(i) for i in photographs], list(photographs.values())
            predictions = predict(self.predictor, self.rule, names, read, _padded(len(read), self.batch_size))
            for i, prediction in zip(photographs, predictions, strict=True):
                answers[i] = prediction_json(prediction)
        return answers

    def explain(self, raw: bytes, method: str, type_name: str | None) -> bytes | None:
        """The photograph in grey with the evidence for a type on it, as JPEG; None where nothing speaks for the type.

        Args:
          raw: the bytes of a file.
          method: a name in `methods.METHODS`.
          type_name: the likeliest type unless given.

        Raises:
          UnreadableError: the file is no photograph that can be read, or too long a strip to be drawn.
        """
        photograph = self.predictor.read(raw)
        if photograph.size[0] * photograph.size[1] > MAX_EXPLAINED:
            raise UnreadableError(f"{photograph.size[1]} x {photograph.size[0]} pixels are too long a strip to explain")
        classes = None if type_name is None else np.array([self.predictor.class_names.index(type_name)])
        (explanation,) = methods.explain(self.predictor, [photograph], [method], classes=classes)
        evidence = overlay(np.asarray(read_photograph(photograph.jpeg)), explanation.heat[method])
        if evidence is None:
            return None
        out = io.BytesIO()
        Image.fromarray(np.round(255 * evidence).astype(np.uint8)).save(out, "JPEG", quality=90)
        return out.getvalue()

    def about(self) -> dict[str, Any]:
        """What answers rest on: the model, its calibration, what may be asked."""
        calibration = self.predictor.calibration
        return {
            "model": self.predictor.name,
            "classes": list(self.predictor.class_names),
            "runs": len(self.predictor.members),
            "temperature": self.predictor.temperature,
            "reference": 0 if calibration is None else len(calibration.labels),  # photographs behind the sets
            "site": self.site,
            "methods": {name: method.title for name, method in methods.METHODS.items()},
            "default_method": DEFAULT_METHOD,
            "note": NOTE,
        } | self.rule.describe()

    def warm_up(self) -> None:
        """Compiles what requests will need: each size of batch, and the default explanation."""
        out = io.BytesIO()
        Image.effect_noise((480, 640), 80).convert("RGB").save(out, "JPEG")
        for size in batch_sizes(self.batch_size):
            self.predict([out.getvalue()] * size)
        self.explain(out.getvalue(), DEFAULT_METHOD, None)


def prediction_json(prediction: Prediction) -> Answer:
    """The columns of `predict`, with the box where a localiser found one."""
    located = prediction.located
    return {
        "probabilities": prediction.probabilities,
        "type": prediction.type,
        "set": list(prediction.set),
        "decision": prediction.decision,
        "retake": prediction.retake,
        "quality": prediction.quality,
        "box": None if located is None else {"corners": list(located.box), "confidence": located.confidence},
    }


def batch_sizes(largest: int) -> list[int]:
    """Powers of two, and the largest: the sizes that are compiled. A batch is padded to the next of them."""
    return [2**i for i in range((largest - 1).bit_length())] + [largest]


def _padded(count: int, largest: int) -> int:
    return next(size for size in batch_sizes(largest) if size >= count)
