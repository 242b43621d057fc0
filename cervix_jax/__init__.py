"""Tells the three types of the cervix's transformation zone from a photograph, in JAX.

In a notebook:

    import cervix_jax

    classifier = cervix_jax.load("runs/report")
    prediction = classifier.predict("photograph.jpg")  # probabilities, type, set, decision, retake
    classifier.explain("photograph.jpg", method="grad_cam")  # a PIL image
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cervix_jax.api import Classifier, load

__all__ = ["Classifier", "load"]


def __getattr__(name: str) -> Any:
    """Imports the public API when it is first used, so that importing the package is fast and does not import JAX."""
    if name in __all__:
        from cervix_jax import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
