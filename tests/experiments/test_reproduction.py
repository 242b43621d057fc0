"""Every experiment in small, on drawn photographs: that all systems train and every table is whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from cervix_jax.experiments import variants
from cervix_jax.experiments.report_tables import EXPERIMENTS
from cervix_jax.experiments.reproduction import tabulate

# In a process of its own, where types are not checked at every call: half the time.
ALL = """
import sys
from pathlib import Path
from cervix_jax.experiments import reproducing, running, systems, tables
config = variants.get_config("report")
config.dataset.data_dir = sys.argv[1]
for name in tables.EXPERIMENTS:
    reproducing.reproduce(name, Path(sys.argv[2]), running.Settings(config, quick=True), seeds=1)
"""


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, data_dir) -> Path:
    """All ten in one work directory, as users have them: they share runs."""
    folder = tmp_path_factory.mktemp("reproduce")
    subprocess.run([sys.executable, "-c", ALL, str(data_dir), str(folder)], check=True, stderr=subprocess.PIPE)
    return folder


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_quick(name: str, workdir) -> None:
    found = tabulate(name, workdir)
    assert found["failed"] == 0
    assert [line["reason"] for line in found["rows"]] == [None] * len(EXPERIMENTS[name].rows)
    for line in found["rows"]:
        assert line["measured"]["loss"] > 0
        assert line["measured"]["num_examples"] == 120
        random = any(variants.VARIANTS[system].backbone != "none" for system in line["systems"])
        assert line["measured"]["random_backbone"] == random


def test_experiments_share_their_runs(workdir) -> None:
    assert len(list((workdir / "runs").iterdir())) == len(variants.VARIANTS)
