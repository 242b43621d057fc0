"""Waiting for batches."""

import pytest

from cervix_jax.speed import feeding


@pytest.mark.parametrize("cache_bytes", [1 << 30, 0])
def test_shares_and_counts(tiny_config, cache_bytes) -> None:
    tiny_config.dataset.cache_bytes = cache_bytes
    tiny_config.model.widths, tiny_config.model.blocks = (4,), (1,)
    found = feeding.feed(tiny_config, 4)
    assert found["cold"]["steps"] == 3  # one pass
    assert found["warm"]["steps"] == 4
    for part in (found["cold"], found["warm"]):
        assert 0 <= part["waited_percent"] <= 100
        assert part["images_per_second"]["median"] > 0
    assert 0 < found["fraction_of_limit"] < 3  # few and tiny steps: noise
