"""One implementation for host and device: the numeric libraries that belong to an array."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import jax.scipy.special
import numpy as np
import scipy.special

ArrayT = TypeVar("ArrayT", np.ndarray, jax.Array)


def namespaces(x: Any) -> tuple[Any, Any]:
    """(numpy, scipy.special) for a NumPy array; their JAX counterparts for a JAX array, traced ones included."""
    return (jnp, jax.scipy.special) if isinstance(x, jax.Array) else (np, scipy.special)
