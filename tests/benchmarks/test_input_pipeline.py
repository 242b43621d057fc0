"""The pipeline and the step of a small run, in this process; `test_benchmark.py` starts the program."""

import pytest

from cervix_jax.benchmarks import input_pipeline


def test_every_step_is_waiting_transfer_and_computation(tiny_config) -> None:
    tiny_config.model.widths, tiny_config.model.blocks = (4,), (1,)
    metrics = input_pipeline.feed(tiny_config, 2)
    assert (metrics["what"], metrics["batch_size"]) == ("input", 16)
    for phase in ("cold", "warm"):
        row = metrics[phase]
        assert row["steps"] == 2
        assert 0 <= row["waited_percent"] <= 100
        milliseconds = sum(row[f"{name}_milliseconds"]["median"] for name in ("wait", "transfer", "step"))
        # The median of two is their mean, and the mean of speeds is at least the speed of the mean time.
        assert 16e3 / milliseconds <= row["images_per_second"]["median"] * (1 + 1e-9)
    assert metrics["images_per_second"] == metrics["warm"]["images_per_second"]
    limit = metrics["limit"]["images_per_second"]["median"]
    assert metrics["fraction_of_limit"] == pytest.approx(metrics["images_per_second"]["median"] / limit)
