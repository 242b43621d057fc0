"""The public API for notebooks: trained runs as an object that predicts and explains photographs.

The programs `predict` and `explain` and this module share their code, so they give the same numbers.
"""

import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from cervix_jax.images.decode import read_photograph, to_upright_rgb
from cervix_jax.images.files import UnreadableError
from cervix_jax.inference.decisions import DecisionRule, Prediction, predict
from cervix_jax.inference.photograph import Photograph
from cervix_jax.inference.predictor import Predictor

StrPath = str | os.PathLike[str]
Source = StrPath | Image.Image | np.ndarray  # a path; a PIL image, read as its file is; or uint8 [h w 3] or [h w]


def load(
    workdirs: StrPath | Sequence[StrPath],
    *,
    rule: str | None = None,
    tta: Sequence[str] = (),
    weights: str | None = None,
    calibrated: bool = True,
    site: str | None = None,
    coverage: float | None = None,
    unsafe_rate: float | None = None,
) -> "Classifier":
    """Loads trained runs.

    Args:
      workdirs: the work directory of a run or of a cross-validation, or several, which are an ensemble.
      rule: how runs are combined: 'report', 'mean' or 'geometric'; None: 'report', of a cross-validation 'mean'.
      tta: test-time augmentations to average over, of 'flips' and 'crops'.
      weights: 'raw' for parameters as trained, 'ema' for their moving average; None: the average where there is one.
      calibrated: apply the calibration that `cervix_jax.calibrate` made for these runs and options, where there is one.
      site: apply the calibration that `cervix_jax.calibrate` made for a site of this name instead.
      coverage: probability with which prediction sets hold the true type; needs a calibration.
      unsafe_rate: fraction of types 2 and 3 that may be called type 1; needs a calibration.

    Raises:
      RunError, CheckpointError: a work directory holds no finished run.
      EnsembleError: the runs do not belong together.
      UnknownAugmentationError, CalibrationError, DecisionRuleError: an option does not fit; the message says why.
    """
    folders = [workdirs] if isinstance(workdirs, str | os.PathLike) else list(workdirs)
    predictor = Predictor.restore(
        [Path(folder) for folder in folders],
        rule=rule,
        augmentations=tta,
        weights=weights,
        calibrated=calibrated,
        site=site,
    )
    return Classifier(predictor, DecisionRule.fit(predictor.calibration, coverage, unsafe_rate))


class Classifier:
    """Trained runs that predict and explain photographs; made by `load`.

    Attributes:
      predictor: photographs to probabilities.
      rule: probabilities to decisions.
    """

    def __init__(self, predictor: Predictor, rule: DecisionRule):
        self.predictor, self.rule = predictor, rule

    def __repr__(self) -> str:
        calibration = f"temperature {self.predictor.temperature:.3g}" if self.predictor.calibration else "uncalibrated"
        return f"<cervix_jax.Classifier {self.predictor.name}: {', '.join(self.class_names)}; {calibration}>"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the types, in the order of the probabilities."""
        return self.predictor.class_names

    @overload
    def predict(self, photographs: Source, *, batch_size: int = 32) -> Prediction: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, photographs: Iterable[Source], *, batch_size: int = 32) -> list[Prediction]: ...

    def predict(self, photographs: Source | Iterable[Source], *, batch_size: int = 32) -> Prediction | list[Prediction]:
        """Predicts a photograph, or several.

        Args:
          photographs: paths, PIL images or uint8 arrays, RGB [h w 3] or grey [h w]; one of them, or a sequence.
          batch_size: photographs a step; results do not depend on it.

        Returns:
          A `Prediction` of one photograph; of a sequence a list of them.

        Raises:
          UnreadableError: a file is no photograph that can be read.
        """
        if _is_single(photographs):
            return self._predict([photographs], batch_size)[0]
        return self._predict(list(photographs), batch_size)  # type: ignore[arg-type]

    def explain(
        self, photograph: Source, method: str = "grad_cam", *, type_name: str | None = None, target: str = "type"
    ) -> Image.Image:
        """Draws the evidence for a type over a photograph.

        Args:
          photograph: a path, PIL image or uint8 array, RGB [h w 3] or grey [h w].
          method: a name in `cervix_jax.explainers.methods.METHODS`.
          type_name: the type to explain; the likeliest unless given.
          target: 'type' for evidence for the type, 'margin' for evidence for it against the others.

        Returns:
          The photograph in grey, evidence in colours (inferno); the bare photograph where nothing speaks for the type.

        Raises:
          MethodError: there is no such method, type or target.
          UnreadableError: the file is no photograph that can be read.
        """
        from cervix_jax.explainers import methods  # drawing imports matplotlib, which predicting does not need
        from cervix_jax.plots import explanation_files, explanation_panels

        explanation_files.check_methods(self.predictor, [method], type_name, None, target)
        read = self._read(photograph, _name(photograph, 0), with_features=False)
        classes = None if type_name is None else np.array([self.class_names.index(type_name)])
        (explanation,) = methods.explain(self.predictor, [read], [method], target=target, classes=classes)
        picture = np.asarray(read_photograph(read.jpeg))
        evidence = explanation_panels.overlay(picture, explanation.heat[method])
        return Image.fromarray(picture if evidence is None else np.round(255 * evidence).astype(np.uint8))

    def _predict(self, sources: Sequence[Any], batch_size: int) -> list[Prediction]:
        predictions = []
        for start in range(0, len(sources), batch_size):
            chunk = sources[start : start + batch_size]
            names = [_name(source, start + i) for i, source in enumerate(chunk)]
            photographs = [
                self._read(source, name, with_features=True) for source, name in zip(chunk, names, strict=True)
            ]
            predictions += predict(self.predictor, self.rule, names, photographs, batch_size)
        return predictions

    def _read(self, source: Source, name: str, *, with_features: bool) -> Photograph:
        try:
            return self.predictor.read(
                source if isinstance(source, str | os.PathLike) else _to_png(source), with_features=with_features
            )
        except UnreadableError as error:
            raise UnreadableError(f"{name}: {error}") from error


def _is_single(photographs: Any) -> bool:
    if isinstance(photographs, np.ndarray):
        return photographs.ndim < 4
    return isinstance(photographs, str | os.PathLike | Image.Image)


def _name(source: Source, index: int) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else f"photograph {index}"


def _to_png(pixels: Image.Image | np.ndarray) -> bytes:
    """The bytes of a file without loss, so that pixels are read as files are."""
    image = pixels if isinstance(pixels, Image.Image) else _image(np.asarray(pixels))
    out = io.BytesIO()
    to_upright_rgb(image).save(out, "PNG")
    return out.getvalue()


def _image(pixels: np.ndarray) -> Image.Image:
    is_rgb = pixels.ndim == 3 and pixels.shape[2] == 3
    if pixels.dtype != np.uint8 or not (is_rgb or pixels.ndim == 2):
        raise UnreadableError(f"a {pixels.dtype} array of shape {pixels.shape}; pixels are uint8, [h w 3] or [h w]")
    return Image.fromarray(pixels)
