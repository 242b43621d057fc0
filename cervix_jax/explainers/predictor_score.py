"""What is explained: one number an example, as a differentiable function of the photographs.

Explainers know nothing of runs and ensembles; they take any function from images to scores. `PredictorScore` is that
function for a predictor. Images are a tuple with one array for each of `Predictor.network_inputs`, so that an ensemble
of unlike members is explained by exact gradients, each at its own pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from cervix_jax.errors import UserError
from cervix_jax.inference.ensemble import Combination
from cervix_jax.inference.predictor import Predictor
from cervix_jax.models.classifier import Classifier

NetworkInputs = tuple[Float[Array, "b _ _ 3"], ...]  # RGB, 0 to 255


class LayerError(UserError):
    """A network has no feature map of that name; the message lists those it has."""


class PredictorScore(struct.PyTreeNode):
    """The score of one type for each example, by a predictor; a pytree, so that a jitted explainer compiles once.

    'type' is the type's logit before softmax (Simonyan et al. 2014, section 3); of several runs the weighted mean of
    theirs, of one-vs-rest runs the type's own logit less that of the rest. 'margin' is the logarithm of the odds of the
    combined probability: what speaks for the type against the others.

    Attributes:
      classes: index of the class that is scored, for each example.
      variables: of each member.
      models: the members.
      inputs: for each member the index of its image array.
      combination: how members become one.
      target: 'type' or 'margin'.
      layers: of each member, the layer that Grad-CAM reads; empty for other methods.
    """

    classes: Int[Array, "b"]
    variables: tuple[Any, ...]
    models: tuple[Classifier, ...] = struct.field(pytree_node=False)
    inputs: tuple[int, ...] = struct.field(pytree_node=False)
    combination: Combination = struct.field(pytree_node=False)
    target: str = struct.field(pytree_node=False)
    layers: tuple[str, ...] = struct.field(pytree_node=False, default=())

    @classmethod
    def of(
        cls, predictor: Predictor, classes: Int[np.ndarray, "b"], target: str, layers: tuple[str, ...] = ()
    ) -> "PredictorScore":
        """The score of a predictor for some classes, indices into its class names."""
        return cls(
            classes=jnp.asarray(classes),
            variables=tuple(member.variables for member in predictor.members),
            models=tuple(member.model for member in predictor.members),
            inputs=tuple(predictor.network_inputs.index(member.network_input) for member in predictor.members),
            combination=predictor.combination,
            target=target,
            layers=layers,
        )

    def __call__(self, images: NetworkInputs) -> Float[Array, "b"]:
        """The scores of photographs."""
        return self._combine([self._apply(i, images)[0] for i in range(len(self.models))])

    def with_perturbations(
        self, images: NetworkInputs, perturbations: Sequence[Array]
    ) -> tuple[Float[Array, "b"], list[Array]]:
        """The scores, and the feature map of each member's layer with its perturbation added."""
        logits, feature_maps = [], []
        for i, (layer, perturbation) in enumerate(zip(self.layers, perturbations, strict=True)):
            member_logits, end_points = self._apply(i, images, {layer: perturbation})
            logits.append(member_logits)
            feature_maps.append(end_points[layer])
        return self._combine(logits), feature_maps

    def layer_shapes(self, images: NetworkInputs) -> list[tuple[int, ...]]:
        """Shape [b h w c] of the feature map of each member's layer."""
        return [self.feature_maps(i, images)[layer].shape for i, layer in enumerate(self.layers)]

    def feature_maps(self, member: int, images: NetworkInputs) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes [b h w c] of all feature maps of a member, by layer, in order."""
        order: list[str] = []  # which a tree of JAX does not keep

        def end_points(images: NetworkInputs) -> dict[str, Array]:
            points = self._apply(member, images)[1]
            order.extend(points)
            return points

        shapes = jax.eval_shape(end_points, images)
        return {name: shapes[name] for name in order if shapes[name].ndim == 4}

    def choose_layers(self, images: NetworkInputs, layer: str | None = None) -> "PredictorScore":
        """The same score with the layer of each member that is named, or else its last feature map.

        Raises:
          LayerError: a member has no such layer.
        """
        chosen = []
        for i in range(len(self.models)):
            names = list(self.feature_maps(i, images))
            if layer is not None and layer not in names:
                raise LayerError(f"there is no layer {layer!r}; the feature maps are {', '.join(names)}")
            chosen.append(layer or names[-1])
        return self.replace(layers=tuple(chosen))

    def _apply(
        self, member: int, images: NetworkInputs, perturbations: Mapping[str, Array] | None = None
    ) -> tuple[Float[Array, "b k"], dict[str, Array]]:
        """Logits and end points of a member."""
        inputs = images[self.inputs[member]]
        outputs: Any = self.models[member].apply(self.variables[member], inputs, perturbations=perturbations)
        return outputs

    def _combine(self, logits: Sequence[Float[Array, "b _"]]) -> Float[Array, "b"]:
        if self.target == "type":
            return _at(self.combination.logits(logits), self.classes)
        log_probabilities = self.combination.log_probabilities([jax.nn.log_softmax(x) for x in logits])
        return _log_odds(log_probabilities, self.classes)


def _at(scores: Float[Array, "b k"], classes: Int[Array, "b"]) -> Float[Array, "b"]:
    return jnp.take_along_axis(scores, classes[:, None], axis=1)[:, 0]


def _log_odds(log_probabilities: Float[Array, "b k"], classes: Int[Array, "b"]) -> Float[Array, "b"]:
    """log(p / (1 - p)) of one class an example."""
    is_class = jax.nn.one_hot(classes, log_probabilities.shape[1], dtype=bool)
    others = jnp.where(is_class, -jnp.inf, log_probabilities)
    return _at(log_probabilities, classes) - jax.nn.logsumexp(others, axis=1)
