"""A few of the kills of `kill.py`; those of programs that train, which take longest, if they are asked for."""

import random

import pytest

from tests.reliability.kill import Killer
from tests.reliability.programs import Programs


@pytest.fixture(scope="module")
def killer(manual_dir, data_dir, tmp_path_factory):
    return Killer(Programs(tmp_path_factory.mktemp("kill"), manual_dir, data_dir))


@pytest.mark.parametrize(
    ("program", "kills"),
    [
        ("prepare", 4),
        pytest.param("train", 3, marks=pytest.mark.reliability),
        pytest.param("crossvalidate", 3, marks=pytest.mark.reliability),
    ],
)
def test_a_killed_program_ends_as_one_that_was_left_alone(killer, program, kills) -> None:
    draw = random.Random(0)
    while kills > 0:  # it may have ended before
        kills -= killer.kill(program, kills, lambda: draw.uniform(0.02, 0.7))
