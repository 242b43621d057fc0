"""How the distributions of an ensemble's members become one (report sections 12 and 15).

The only place that says so: prediction, explanations and the report's tables all combine by `Combination`. It computes
with logarithms, and is differentiable where it is given JAX arrays.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from cervix_jax.errors import UserError
from cervix_jax.inference.array_namespace import ArrayT, namespaces
from cervix_jax.labels import CLASS_NAMES

REPORT_BASE = 0.95  # report section 12
RULES = ("report", "mean", "geometric", "one_vs_rest")


class EnsembleError(UserError):
    """Runs cannot be one ensemble; the message says why."""


@dataclasses.dataclass(frozen=True)
class Combination:
    """A weighted mean over members; hashable, so that it can be static in a jitted function.

    Either all members distinguish the same classes, and are averaged; or each distinguishes one class from the rest,
    and the probabilities of 'this class', averaged over its members, are scaled so that they sum to one.

    Attributes:
      class_names: of the combined distribution, k names.
      groups: indices of the members that are averaged: one group of all, or one for each class.
      weights: of each member; they sum to one in each group.
      geometric: average logarithms of probabilities: a member that rules a class out outvotes the others.
    """

    class_names: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    weights: tuple[float, ...]
    geometric: bool = False

    @classmethod
    def of(cls, rule: str, losses: Sequence[float], class_names: Sequence[tuple[str, ...]]) -> "Combination":
        """The combination of members by a rule.

        Args:
          rule: 'report': weighted by `report_weights`, equally where these are undefined; 'mean' and 'geometric':
            equally; 'one_vs_rest': as 'mean'. One-vs-rest members are recognised by their class names, whatever the
            rule.
          losses: validation loss of each member in nats.
          class_names: of each member: all of the same classes, or ('rest', CLASS) each.

        Raises:
          EnsembleError: there is no such rule, or the members do not distinguish the same classes.
        """
        if rule not in RULES:
            raise EnsembleError(f"there is no rule {rule!r} to combine runs by; there are {', '.join(RULES)}")
        names = _combined_class_names(class_names)
        groups: tuple[tuple[int, ...], ...] = (tuple(range(len(class_names))),)
        if names != tuple(class_names[0]):
            positive = [class_name for _, class_name in class_names]
            groups = tuple(tuple(i for i, p in enumerate(positive) if p == name) for name in names)
        weights = np.zeros(len(class_names))
        for group in groups:
            by_loss = report_weights([losses[i] for i in group]) if rule == "report" else None
            weights[list(group)] = 1 / len(group) if by_loss is None else by_loss
        return cls(names, groups, tuple(map(float, weights)), geometric=rule == "geometric")

    @property
    def is_one_vs_rest(self) -> bool:
        """Whether each member distinguishes one class from the rest."""
        return len(self.groups) > 1

    def probabilities(self, members: Sequence[Float[np.ndarray, "n _"]]) -> Float[np.ndarray, "n k"]:
        """Combined probabilities of n photographs from those of each member; a single member's are returned as is."""
        if len(members) == 1:
            return members[0]
        tiny = np.finfo(np.float64).tiny
        return np.exp(self.log_probabilities([np.log(np.maximum(p, tiny)) for p in members]))

    def log_probabilities(self, members: Sequence[Float[ArrayT, "n _"]]) -> Float[ArrayT, "n k"]:
        """Combined log-probabilities from finite ones of each member, all NumPy or all JAX arrays."""
        means = [self._log_mean(group, members) for group in self.groups]
        if not self.is_one_vs_rest:
            return means[0]
        numpy, special = namespaces(means[0])
        return special.log_softmax(numpy.stack([mean[:, 1] for mean in means], axis=1), axis=1)

    def logits(self, members: Sequence[Float[ArrayT, "n _"]]) -> Float[ArrayT, "n k"]:
        """Weighted mean of the members' logits; of one-vs-rest members each class's logit less that of the rest."""
        means = [self._mean(group, members) for group in self.groups]
        if not self.is_one_vs_rest:
            return means[0]
        numpy, _ = namespaces(means[0])
        return numpy.stack([mean[:, 1] - mean[:, 0] for mean in means], axis=1)

    def _mean(self, group: tuple[int, ...], members: Sequence[Any]) -> Any:
        stacked, weights = self._stacked(group, members)
        numpy, _ = namespaces(stacked)
        return numpy.tensordot(weights, stacked, axes=1)

    def _log_mean(self, group: tuple[int, ...], members: Sequence[Any]) -> Any:
        """Logarithm of the weighted mean of a group's probabilities."""
        stacked, weights = self._stacked(group, members)
        numpy, special = namespaces(stacked)
        if self.geometric:
            return special.log_softmax(numpy.tensordot(weights, stacked, axes=1), axis=1)
        return special.logsumexp(stacked, axis=0, b=weights[:, None, None])

    def _stacked(self, group: tuple[int, ...], members: Sequence[Any]) -> tuple[Any, Any]:
        numpy, _ = namespaces(members[0])
        stacked = numpy.stack([members[i] for i in group])
        return stacked, numpy.asarray([self.weights[i] for i in group], stacked.dtype)


def combine(
    probabilities: Sequence[Float[np.ndarray, "n _"]],
    *,
    rule: str,
    losses: Sequence[float],
    class_names: Sequence[tuple[str, ...]],
) -> tuple[Float[np.ndarray, "n k"], tuple[str, ...]]:
    """One distribution for each of n photographs, from those of each member, and the names of its k classes.

    Args:
      probabilities: of each member; rows sum to one.
      rule: see `Combination.of`.
      losses: see `Combination.of`.
      class_names: see `Combination.of`.

    Raises:
      EnsembleError: see `Combination.of`.
    """
    combination = Combination.of(rule, losses, class_names)
    return combination.probabilities(probabilities), combination.class_names


def report_weights(losses: Sequence[float]) -> Float[np.ndarray, "m"] | None:
    """Weights proportional to 0.95 - validation loss, never negative (report section 12).

    Args:
      losses: of each member's checkpoint, in nats.

    Returns:
      Weights that sum to one; None if every loss is 0.95 or more, so that the rule is undefined.
    """
    weights = np.maximum(REPORT_BASE - np.asarray(losses, float), 0)
    return weights / weights.sum() if weights.sum() > 0 else None


def _combined_class_names(class_names: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    names = [tuple(each) for each in class_names]
    if len(set(names)) == 1:
        return names[0]
    if any(len(each) != 2 for each in names):
        raise EnsembleError("runs of three types and runs of one type against the rest cannot be one ensemble")
    if missing := set(CLASS_NAMES) - {each[1] for each in names}:
        raise EnsembleError(f"one run for each type is needed; there is none for {', '.join(sorted(missing))}")
    return CLASS_NAMES
