"""From probabilities to decisions: prediction sets, when 'type 1' may be said, and which photographs to take again."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from cervix_jax.errors import UserError
from cervix_jax.images.boxes import LocatedBox
from cervix_jax.inference import conformal
from cervix_jax.inference.calibration import Calibration, CalibrationError
from cervix_jax.inference.clinical_metrics import proportions
from cervix_jax.inference.photograph import Photograph
from cervix_jax.inference.predictor import Predictor
from cervix_jax.labels import ABLATABLE, CLASS_NAMES

REFER = "refer"  # the decision where a prediction set is not just the type that is called
NOT_ASSESSED = "not assessed"  # instead of reasons to retake, by a run without quality.npz


class DecisionRuleError(UserError):
    """A number is out of range, or the rule is not for these types."""


@dataclasses.dataclass(frozen=True)
class DecisionRule:
    """Thresholds that turn probabilities into a type and a prediction set.

    Attributes:
      coverage: probability with which a set holds the true type; None for sets of the called type alone.
      set_threshold: least probability of a type in a set, see `conformal.set_threshold`; None without coverage.
      ablation_threshold: probability that type 1 has to exceed to be called; None to call the likeliest type.
      expected: `unsafe_rate`, `sensitivity/Type_1` and `accuracy` of the reference photographs at the ablation
        threshold; None without one.
      reference: of folds, whose sets are those of `conformal.cv_plus_sets` instead of a threshold's.
      unsafe_rate: that the ablation threshold was chosen for; None without one.
    """

    coverage: float | None = None
    set_threshold: float | None = None
    ablation_threshold: float | None = None
    expected: Mapping[str, float | None] | None = None
    reference: Calibration | None = None
    unsafe_rate: float | None = None

    @classmethod
    def fit(
        cls, calibration: Calibration | None, coverage: float | None = None, unsafe_rate: float | None = None
    ) -> "DecisionRule":
        """Chooses the thresholds by the reference photographs of a calibration.

        Args:
          calibration: of the predictor.
          coverage: see `conformal.set_threshold`.
          unsafe_rate: see `conformal.ablation_threshold`.

        Raises:
          CalibrationError: a threshold is asked for, and there is no calibration.
          DecisionRuleError: a number is not above 0 and below 1, or there are not three types.
        """
        for name, value in (("coverage", coverage), ("unsafe_rate", unsafe_rate)):
            if value is not None and not 0 < value < 1:
                raise DecisionRuleError(f"--{name} is {value}; it must be above 0 and below 1")
        if coverage is None and unsafe_rate is None:
            return cls()
        if calibration is None:
            raise CalibrationError(
                "--coverage and --unsafe_rate need a calibration of these runs, and there is none: "
                "python -m cervix_jax.calibrate with the same --workdir, --combine, --tta and --weights"
            )
        reference, labels, groups = calibration.probabilities, calibration.labels, calibration.groups
        if unsafe_rate is not None and reference.shape[1] != 3:
            raise DecisionRuleError("--unsafe_rate is for the three types, not for one against the rest")
        crossed = calibration.folds is not None and coverage is not None
        threshold = None
        if unsafe_rate is not None:
            threshold = conformal.ablation_threshold(reference, labels, unsafe_rate, groups)
        return cls(
            coverage,
            None if coverage is None or crossed else conformal.set_threshold(reference, labels, coverage, groups),
            threshold,
            None if threshold is None else _expected(labels, conformal.decide(reference, threshold)),
            calibration if crossed else None,
            unsafe_rate,
        )

    def apply(
        self, probabilities: Float[np.ndarray, "n k"], by_fold: Float[np.ndarray, "f n k"] | None = None
    ) -> tuple[Int[np.ndarray, "n"], Bool[np.ndarray, "n k"]]:
        """The type that each photograph is called, 0 to k - 1, and whether each type is in its prediction set.

        Args:
          probabilities: calibrated, see `Predictor.distributions`.
          by_fold: likewise, of a cross-validation.
        """
        types = conformal.decide(probabilities, self.ablation_threshold)
        known = self.reference
        if known is not None and known.folds is not None and self.coverage is not None and by_fold is not None:
            return types, conformal.cv_plus_sets(
                by_fold, known.probabilities, known.labels, known.folds, self.coverage, known.groups
            )
        if self.set_threshold is None:
            return types, np.eye(probabilities.shape[1], dtype=bool)[types]
        return types, conformal.prediction_sets(probabilities, self.set_threshold)

    def describe(self) -> dict[str, Any]:
        """For JSON: `coverage`, the ablation `threshold` (1 never calls type 1), and what is `expected` of it."""
        threshold = self.ablation_threshold
        return {
            "coverage": self.coverage,
            "threshold": None if threshold is None else min(threshold, 1.0),
            "expected": self.expected,
        }


def _expected(labels: Int[np.ndarray, "m"], types: Int[np.ndarray, "m"]) -> dict[str, float | None]:
    counts = proportions(labels, types, CLASS_NAMES)
    names = ("unsafe_rate", f"sensitivity/{CLASS_NAMES[ABLATABLE]}", "accuracy")
    return {name: counts[name][0] / counts[name][1] if counts[name][1] else None for name in names}


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What is predicted of one photograph, and what to do with it.

    Attributes:
      name: of the photograph.
      probabilities: by class name, summing to one.
      type: the class that it is called.
      set: classes that it may be, true with the coverage that was asked for; the called type alone without one.
      decision: the type, or 'refer' where the set is not just the type.
      retake: why the photograph should be taken again, worst reason first; '' if it is fit to be judged; NOT_ASSESSED
        if the run does not know.
      quality: fraction of the training photographs that are as bad or worse, 0 to 1; None if the run does not know.
      located: the box around the cervix that the (first) run looked into; None without a localiser.
    """

    name: str
    probabilities: dict[str, float]
    type: str
    set: tuple[str, ...]
    decision: str
    retake: str
    quality: float | None
    located: LocatedBox | None = None

    def __str__(self) -> str:
        probabilities = ", ".join(f"{name} {p:.1%}" for name, p in self.probabilities.items())
        retake = f"; take it again: {self.retake}" if self.retake not in ("", NOT_ASSESSED) else ""
        return f"{self.name}: {probabilities} -> {self.decision} (set: {', '.join(self.set)}){retake}"


def predict(
    predictor: Predictor, rule: DecisionRule, names: Sequence[str], photographs: Sequence[Photograph], batch_size: int
) -> list[Prediction]:
    """Predicts photographs and decides what to do with each.

    Args:
      predictor: one run or many.
      rule: how probabilities become decisions.
      names: of the photographs.
      photographs: from `Predictor.read`, with features if their quality is to be assessed.
      batch_size: photographs a step.
    """
    probabilities, by_fold, embeddings = predictor.distributions(photographs, batch_size)
    types, sets = rule.apply(probabilities, by_fold)
    class_names, reference = predictor.class_names, predictor.quality_reference
    familiarity = predictor.familiarity(embeddings) if reference else None
    predictions = []
    for i, (name, photograph) in enumerate(zip(names, photographs, strict=True)):
        called = class_names[types[i]]
        members = tuple(class_name for class_name, held in zip(class_names, sets[i], strict=True) if held)
        features, located = photograph.features, photograph.located[0]
        quality = reference.assess(features, located) if reference and features else None
        if quality and familiarity is not None:
            quality = quality.with_rank("familiarity", float(familiarity[i]))
        predictions.append(
            Prediction(
                name=name,
                probabilities=dict(zip(class_names, probabilities[i].tolist(), strict=True)),
                type=called,
                set=members,
                decision=called if members == (called,) else REFER,
                retake=quality.retake if quality else NOT_ASSESSED,
                quality=quality.rank if quality else None,
                located=located,
            )
        )
    return predictions
