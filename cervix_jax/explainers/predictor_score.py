"""What is explained: one number an example, as a differentiable function of the photographs.

Explainers know nothing of runs and ensembles; they take any function from images to scores. `PredictorScore` is that
function for a predictor. Images are a tuple with one array for each way in which members see a photograph (see
`Predictor.views`), so that an ensemble of unlike members is explained by exact gradients, each at its own pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from cervix_jax.errors import UserError
from cervix_jax.inference.predictor import Predictor
from cervix_jax.models.classifier import Classifier

Views = tuple[Float[Array, "b _ _ 3"], ...]  # RGB, 0 to 255
Perturbations = Sequence[Mapping[str, Array]]  # of each member, see `models.layers.EndPoints`


class LayerError(UserError):
    """A network has no feature map of that name; the message lists those it has."""


class PredictorScore(struct.PyTreeNode):
    """The score of one type for each example, by a predictor; a pytree, so that a jitted explainer compiles once.

    'type' is the type's logit before softmax (Simonyan et al. 2014, section 3); of several runs the weighted mean of
    theirs, of one-vs-rest runs the type's own logit less that of the rest. 'margin' is the logarithm of the odds of the
    combined probability: what speaks for the type against the others.

    Attributes:
      classes: which type, an example.
      variables: of each member.
      models: the members.
      views: which of the views each member sees.
      weights: of each member in the mean.
      one_vs_rest: for each member the type that it tells from the rest; empty if all tell all types.
      geometric: members are averaged by logarithms.
      target: 'type' or 'margin'.
    """

    classes: Int[Array, "b"]
    variables: tuple[Any, ...]
    models: tuple[Classifier, ...] = struct.field(pytree_node=False)
    views: tuple[int, ...] = struct.field(pytree_node=False)
    weights: tuple[float, ...] = struct.field(pytree_node=False)
    one_vs_rest: tuple[int, ...] = struct.field(pytree_node=False)
    geometric: bool = struct.field(pytree_node=False)
    target: str = struct.field(pytree_node=False)

    @classmethod
    def of(cls, predictor: Predictor, classes: Int[np.ndarray, "b"], target: str) -> "PredictorScore":
        """The score of a predictor for some types, places in its class names."""
        return cls(
            classes=jnp.asarray(classes),
            variables=tuple(member.variables for member in predictor.members),
            models=tuple(member.model for member in predictor.members),
            views=tuple(predictor.views.index(member.view) for member in predictor.members),
            weights=tuple(map(float, predictor.weights)),
            one_vs_rest=predictor.own_types,
            geometric=predictor.rule == "geometric",
            target=target,
        )

    def __call__(self, images: Views) -> Float[Array, "b"]:
        """The scores of photographs."""
        return self._combine([self._logits(i, images)[0] for i in range(len(self.models))])

    def with_layers(
        self, layers: Sequence[str], images: Views, perturbations: Perturbations
    ) -> tuple[Float[Array, "b"], list[Array]]:
        """The scores, and the feature map of one layer of each member, to which an perturbation is added."""
        logits, maps = [], []
        for i, layer in enumerate(layers):
            own, points = self._logits(i, images, perturbations[i])
            logits.append(own)
            maps.append(points[layer])
        return self._combine(logits), maps

    def feature_maps(self, member: int, images: Views) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes [b h w c] of the feature maps of a member, by layer, in order."""
        order: list[str] = []  # which a tree of JAX does not keep

        def points(images: Views) -> dict[str, Array]:
            found = self._logits(member, images)[1]
            order.extend(found)
            return found

        shapes = jax.eval_shape(points, images)
        return {name: shapes[name] for name in order if shapes[name].ndim == 4}

    def layers(self, images: Views, wanted: str | None = None) -> list[str]:
        """The layer of each member that Grad-CAM reads: the one that is wanted, or the last feature map.

        Raises:
          LayerError: a member has no such layer.
        """
        chosen = []
        for i in range(len(self.models)):
            there = list(self.feature_maps(i, images))
            if wanted is not None and wanted not in there:
                raise LayerError(f"there is no layer {wanted!r}; the feature maps are {', '.join(there)}")
            chosen.append(wanted or there[-1])
        return chosen

    def _logits(
        self, member: int, images: Views, perturbations: Mapping[str, Array] | None = None
    ) -> tuple[Float[Array, "b k"], dict[str, Array]]:
        view = images[self.views[member]]
        found: Any = self.models[member].apply(self.variables[member], view, perturbations=perturbations)
        return found

    def _combine(self, logits: Sequence[Float[Array, "b _"]]) -> Float[Array, "b"]:
        if self.one_vs_rest:
            return self._combine_one_vs_rest(logits)
        weights = jnp.array(self.weights)
        if self.target == "type":
            return _of(jnp.tensordot(weights, jnp.stack(logits), axes=1), self.classes)
        return _log_odds(self._mean(weights, jax.nn.log_softmax(jnp.stack(logits))), self.classes)

    def _combine_one_vs_rest(self, logits: Sequence[Float[Array, "b _"]]) -> Float[Array, "b"]:
        """Own probabilities of each type, averaged over its members, as one distribution."""
        k = max(self.one_vs_rest) + 1
        members = [[i for i, own in enumerate(self.one_vs_rest) if own == name] for name in range(k)]
        weights = [jnp.array([self.weights[i] for i in part]) for part in members]
        stacked = [jnp.stack([logits[i] for i in part]) for part in members]
        if self.target == "type":
            margins = [jnp.tensordot(w, s[..., 1] - s[..., 0], axes=1) for w, s in zip(weights, stacked, strict=True)]
            return _of(jnp.stack(margins, axis=1), self.classes)
        means = [self._mean(w, jax.nn.log_softmax(s)) for w, s in zip(weights, stacked, strict=True)]
        own = [jax.nn.log_softmax(mean)[:, 1] for mean in means]
        return _log_odds(jnp.stack(own, axis=1), self.classes)

    def _mean(self, weights: Float[Array, "m"], logarithms: Float[Array, "m b k"]) -> Float[Array, "b k"]:
        """The logarithm of the weighted mean of probabilities; of the geometric one up to a constant."""
        if self.geometric:
            return jnp.tensordot(weights, logarithms, axes=1)
        return jax.nn.logsumexp(logarithms, axis=0, b=weights[:, None, None])


def _of(scores: Float[Array, "b k"], classes: Int[Array, "b"]) -> Float[Array, "b"]:
    return jnp.take_along_axis(scores, classes[:, None], axis=1)[:, 0]


def _log_odds(logarithms: Float[Array, "b k"], classes: Int[Array, "b"]) -> Float[Array, "b"]:
    """The logarithm of p / (1 - p), from unnormalised logarithms of probabilities."""
    others = jnp.where(jax.nn.one_hot(classes, logarithms.shape[1], dtype=bool), -jnp.inf, logarithms)
    return _of(logarithms, classes) - jax.nn.logsumexp(others, axis=1)
