"""What the registry says of the methods."""

import numpy as np
import pytest

from cervix_jax.explainers.base import Method
from cervix_jax.explainers.methods import METHODS


def test_methods_are_told_apart_by_title_and_only_grad_cam_reads_layers() -> None:
    assert len({method.title for method in METHODS.values()}) == len(METHODS)
    assert [name for name, method in METHODS.items() if method.reads_layers] == ["grad_cam"]


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.reads_layers])
def test_a_method_explains_any_score_function(name) -> None:
    import jax

    method: Method = METHODS[name]
    images = jax.random.uniform(jax.random.key(0), (2, 8, 6, 3), maxval=255)
    maps = method.maps(lambda x: (x[:, 2, 3, 1] / 255) ** 2, images, jax.random.key(1))
    assert maps.shape == (2, 8, 6)
    assert (np.asarray(maps) >= 0).all()
    assert (np.asarray(maps[:, 2, 3]) == np.asarray(maps).max(axis=(1, 2))).all()
