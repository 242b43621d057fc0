"""The vanilla CNN has the depth that the report gives."""

import jax
import jax.numpy as jnp

from cervix_jax.models.heads.vanilla_cnn import VanillaCNN


def test_it_has_14_convolutions_and_3_affine_layers() -> None:
    (_, points), variables = jax.eval_shape(VanillaCNN().init_with_output, jax.random.key(0), jnp.zeros((1, 50, 48, 3)))
    kernels = [leaf for path, leaf in jax.tree.leaves_with_path(variables["params"]) if path[-1].key == "kernel"]
    assert sum(kernel.ndim == 4 for kernel in kernels) == 14
    assert sum(kernel.ndim == 2 for kernel in kernels) == 3
    assert [points[f"group{n}"].shape[1:] for n in (1, 5)] == [(50, 48, 16), (4, 3, 256)]
