"""A finished run as the tests of this room look at it; restored, compiled and measured once. Tests do not change it."""

import dataclasses

import pytest

from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.inference import clinical_metrics
from cervix_jax.inference.calibration import calibrate
from cervix_jax.inference.evaluation import evaluate
from cervix_jax.inference.labelled import split_photographs
from cervix_jax.inference.predictor import Predictor


@pytest.fixture(scope="session")
def predictor(_finished_run) -> Predictor:
    return Predictor.restore([_finished_run[0]])


@pytest.fixture(scope="session")
def validation(predictor):
    """Its validation photographs."""
    return split_photographs(predictor, load_dataset, "validation")


@pytest.fixture(scope="session")
def cross_validated(folds) -> Predictor:
    return Predictor.restore([folds.workdir])


@pytest.fixture(scope="session")
def held_out(cross_validated):
    """All photographs, each as the run that holds it out reads it."""
    return split_photographs(cross_validated, load_dataset, "validation")


@pytest.fixture(scope="session")
def calibration(predictor, validation):
    """Of a temperature that changes numbers: twelve photographs cannot tell which is best."""
    probabilities = predictor.probabilities(validation.photographs)
    made = calibrate(probabilities, validation.labels, validation.ids, validation.groups)
    return dataclasses.replace(made, temperature=1.5)


@pytest.fixture(scope="session")
def metrics(predictor, validation):
    """Of the uncalibrated predictor on its validation photographs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clinical_metrics, "RESAMPLES", 50)
        return evaluate(predictor, validation).metrics
