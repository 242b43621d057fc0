"""How probabilities become decisions: prediction sets, and when 'type 1' may be said."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from cervix_jax.errors import UserError
from cervix_jax.inference import conformal
from cervix_jax.inference.calibration import Calibration, CalibrationError


class RulesError(UserError):
    """A number is out of range, or the rule is not for these types."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """Rules with a reference that they are chosen by; without any, the likeliest type is the decision.

    Attributes:
      coverage: probability with which a set shall hold the true type; None for sets of the called type alone.
      threshold: that the probability of type 1 has to exceed to be called; None for the likeliest.
      reference: calibrated probabilities and types to choose sets by.
    """

    coverage: float | None = None
    threshold: float | None = None
    reference: Calibration | None = None

    @classmethod
    def choose(cls, calibration: Calibration | None, coverage: float | None, unsafe_rate: float | None) -> "Rules":
        """By the reference photographs of a calibration.

        Args:
          calibration: of the predictor.
          coverage: see `conformal.prediction_sets`.
          unsafe_rate: see `conformal.ablation_threshold`.

        Raises:
          CalibrationError: a rule is asked for, and there is no calibration.
          RulesError: a number is not above 0 and below 1, or there are not three types.
        """
        for name, value in (("coverage", coverage), ("unsafe_rate", unsafe_rate)):
            if value is not None and not 0 < value < 1:
                raise RulesError(f"--{name} is {value}; it must be above 0 and below 1")
        if coverage is None and unsafe_rate is None:
            return cls()
        if calibration is None:
            raise CalibrationError(
                "--coverage and --unsafe_rate need a calibration of these runs, and there is none: "
                "python -m cervix_jax.calibrate with the same --workdir, --combine, --tta and --weights"
            )
        threshold = None
        if unsafe_rate is not None:
            if calibration.probabilities.shape[1] != 3:
                raise RulesError("--unsafe_rate is for the three types, not for one against the rest")
            threshold = conformal.ablation_threshold(calibration.probabilities, calibration.labels, unsafe_rate)
        return cls(coverage, threshold, calibration)

    def apply(self, probabilities: Float[np.ndarray, "n k"]) -> tuple[Int[np.ndarray, "n"], Bool[np.ndarray, "n k"]]:
        """The type that each photograph is called, and the set of types that it may be."""
        types = conformal.decide(probabilities, self.threshold)
        if self.coverage is None or self.reference is None:
            return types, np.eye(probabilities.shape[1], dtype=bool)[types]
        reference = self.reference
        return types, conformal.prediction_sets(probabilities, self.coverage, reference.probabilities, reference.labels)

    def describe(self) -> dict[str, Any]:
        """For JSON; an infinite threshold never says type 1."""
        threshold = self.threshold
        return {"coverage": self.coverage, "threshold": min(threshold, 1.0) if threshold is not None else None}
