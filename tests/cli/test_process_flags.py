"""Flags of a program that may be several processes; `training/test_processes.py` starts some."""

import jax
import pytest
from absl import flags
from absl.testing import flagsaver

from cervix_jax.cli import process_flags
from cervix_jax.errors import UserError


@pytest.fixture(autouse=True)
def parsed():
    with flagsaver.flagsaver():
        flags.FLAGS.mark_as_parsed()
        yield


@pytest.mark.parametrize("given", [{"coordinator": "host:1"}, {"num_processes": 2, "process_id": 0}])
def test_flags_go_together(given) -> None:
    with flagsaver.flagsaver(**given), pytest.raises(UserError, match="all or none"), process_flags.join_processes():
        pytest.fail("joined")


def test_without_flags_there_is_one_process() -> None:
    with process_flags.join_processes():
        assert jax.process_count() == 1


@pytest.mark.parametrize("given", [{"num_processes": 0}, {"process_id": -1}])
def test_impossible_numbers_are_refused(given) -> None:
    with pytest.raises(flags.IllegalFlagValueError), flagsaver.flagsaver(**given):
        pytest.fail("accepted")
