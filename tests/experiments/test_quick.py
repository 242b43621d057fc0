"""Every experiment in small, on drawn photographs: that all systems train and every table is whole."""

import pytest

from cervix_jax.experiments import systems
from cervix_jax.experiments.reproducing import reproduce, tabulate
from cervix_jax.experiments.running import Settings
from cervix_jax.experiments.tables import EXPERIMENTS


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Shared, as users share it: experiments have runs in common."""
    return tmp_path_factory.mktemp("reproduce")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_quick(name: str, workdir, data_dir) -> None:
    config = systems.get_config("report")
    config.dataset.data_dir = str(data_dir)
    found = reproduce(name, workdir, Settings(config, quick=True), seeds=1)
    assert found["failed"] == 0
    assert [line["reason"] for line in found["rows"]] == [None] * len(EXPERIMENTS[name].rows)
    for line in found["rows"]:
        assert 0 < line["measured"]["loss"] < 10
        assert line["measured"]["num_examples"] == 120
        random = any(systems.SYSTEMS[system].backbone != "none" for system in line["systems"])
        assert line["measured"]["random_backbone"] == random
    assert tabulate(name, workdir) == found
