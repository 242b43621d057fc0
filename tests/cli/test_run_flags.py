"""Flags that name runs: which predictor they give, and which data."""

import dataclasses

import pytest
from absl import flags
from absl.testing import flagsaver

from cervix_jax.cli import run_flags
from cervix_jax.inference.calibration import CalibrationError
from cervix_jax.inference.decisions import DecisionRule

run_flags.define_data_flags()


@pytest.fixture(autouse=True)
def parsed(_finished_run):
    with flagsaver.flagsaver():
        flags.FLAGS(["program", f"--workdir={_finished_run[0]}", "--tta=flips", "--combine=mean", "--batch_size=7"])
        yield


def test_the_predictor_is_that_of_the_flags() -> None:
    predictor = run_flags.restore(calibrated=True)
    assert (predictor.rule, predictor.augmentations, predictor.calibration) == ("mean", ("flips",), None)
    assert run_flags.BATCH_SIZE.value == 7
    with pytest.raises(CalibrationError, match="with the same --workdir, --combine, --tta and --weights"):
        DecisionRule.fit(predictor.calibration, coverage=0.9)


def test_a_split_is_of_the_data_that_the_runs_were_trained_on() -> None:
    predictor = run_flags.restore()
    cases = run_flags.labelled_split(predictor, "validation")
    assert (cases.origin, len(cases.photographs)) == ("validation", 12)
    member = dataclasses.replace(predictor.members[0], record=predictor.members[0].record | {"data_fingerprint": "x"})
    with pytest.raises(Exception, match="other photographs"):
        run_flags.labelled_split(dataclasses.replace(predictor, members=(member,)), "validation")
