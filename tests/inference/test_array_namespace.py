"""The numeric libraries that belong to an array."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from cervix_jax.inference.array_namespace import namespaces


def test_each_kind_of_array_has_its_libraries() -> None:
    traced = []
    jax.jit(lambda x: traced.append(namespaces(x)) or x)(1.0)
    on_device = (jnp, jax.scipy.special)
    assert namespaces(np.zeros(3)) == (np, scipy.special)
    assert namespaces(jnp.zeros(3)) == traced[0] == on_device
