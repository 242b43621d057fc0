"""Systems of an ensemble alone say what they would say if they were asked alone."""

import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image

from cervix_jax.inference.labelled import LabelledPhotographs
from cervix_jax.inference.systems import probabilities_alone, systems
from tests.explainers.random_predictors import make_member, make_predictor, random_pictures


def jpegs(count: int) -> list[bytes]:
    files = []
    for picture in random_pictures(0, (48, 40), count):
        files.append(io.BytesIO())
        Image.fromarray(picture).save(files[-1], "JPEG")
    return [file.getvalue() for file in files]


def test_a_run_is_no_system_of_itself() -> None:
    assert systems(make_predictor(make_member())) == {}


def test_each_work_directory_judges_by_what_it_sees() -> None:
    members = (
        make_member(0),
        dataclasses.replace(make_member(1, dataset__resize="fit"), workdir=Path("a/fitted")),
        dataclasses.replace(make_member(1), workdir=Path("b/fitted")),
    )
    ensemble, files = make_predictor(*members), jpegs(5)
    assert len(ensemble.network_inputs) == 2
    photographs = [ensemble.read_stored(file) for file in files]
    cases = LabelledPhotographs(photographs, np.zeros(5, int), list("abcde"), np.arange(5), "split")
    found = probabilities_alone(ensemble, cases, 2)
    assert list(found) == ["net0", "a/fitted", "b/fitted"]
    for member, probabilities in zip(members, found.values(), strict=True):
        alone = make_predictor(member)
        expected = alone.probabilities([alone.read_stored(file) for file in files])
        np.testing.assert_allclose(probabilities, expected, atol=1e-6)
