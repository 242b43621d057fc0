"""Tests of shift: their level under no shift, their power, and the decision by stated rules."""

import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.spatial.distance import cdist

from cervix_jax.inference import shift as module
from cervix_jax.inference.outliers import EmbeddingReference, first_of_each
from cervix_jax.inference.shift import decide_use, embedding_test, feature_tests, shift_tests


@pytest.fixture(autouse=True)
def few_permutations(monkeypatch):
    monkeypatch.setattr(module, "PERMUTATIONS", 100)
    monkeypatch.setattr(module, "TRIALS", 40)


def test_the_discrepancy_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 1, (20, 3)), rng.normal(1, 1, (10, 3))
    scaled = np.concatenate([first, second]) / (first.std(axis=0) + 1e-6)
    squares = cdist(scaled, scaled, "sqeuclidean")
    kernel = np.exp(-squares / np.median(squares))
    expected = kernel[:20, :20].mean() + kernel[20:, 20:].mean() - 2 * kernel[:20, 20:].mean()
    assert embedding_test(first, second)["mmd"] == pytest.approx(expected)


def test_p_values_keep_their_level_and_find_a_shift() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(0, 1, (80, 5))
    same = [embedding_test(reference, rng.normal(0, 1, (20, 5)), seed=i)["p"] for i in range(20)]
    assert np.mean(np.array(same) <= 0.05) <= 0.2
    assert np.mean(same) > 0.3
    assert embedding_test(reference, rng.normal(0.8, 1, (20, 5)))["p"] <= 0.02


def test_power_grows_with_the_number_of_photographs() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(0, 1, (200, 4)) * [3, 1, 1, 1]
    few, many = (embedding_test(reference, rng.normal(0, 1, (n, 4)))["power"] for n in (8, 90))
    assert few < 0.5 < many


def test_one_photograph_of_each_case_takes_part_and_features_are_corrected_together(predictor, validation) -> None:
    assert first_of_each(np.array([5, 5, 2, 7, 2])).tolist() == [0, 2, 3]
    photographs = [predictor.read(photograph.jpeg, with_features=True) for photograph in list(validation.photographs)]
    tests = shift_tests(predictor, photographs, np.arange(len(photographs)) // 2)
    assert tests["photographs"] == (len(photographs) + 1) // 2
    assert min(tests["features"].values()) > 0.05
    assert tests["embeddings"] is None
    dark = [predictor.read(_darker(photograph.jpeg), with_features=True) for photograph in photographs]
    p = feature_tests(predictor.quality_reference, dark)
    assert p["darkness"] < 0.01
    assert all(0 <= value <= 1 for value in p.values())


def test_photographs_of_one_case_count_once_in_the_reference(predictor, validation, tmp_path) -> None:
    photographs = [predictor.read(photograph.jpeg, with_features=True) for photograph in list(validation.photographs)]
    held_out = np.random.default_rng(0).normal(0, 1, (40, predictor.embeddings(photographs[:1])[0].shape[1]))

    def tests_with(reference: EmbeddingReference):
        member = dataclasses.replace(predictor.members[0], workdir=tmp_path)
        reference.save(tmp_path, member.digest)
        judge = dataclasses.replace(predictor, members=(member,))
        return shift_tests(judge, photographs, np.arange(len(photographs)))["embeddings"]

    once, groups = tests_with(EmbeddingReference(held_out)), np.repeat(np.arange(40), 4)
    assert tests_with(EmbeddingReference(np.repeat(held_out, 4, axis=0), groups)) == once
    assert tests_with(EmbeddingReference(np.repeat(held_out, 4, axis=0))) != once


def _darker(jpeg: bytes) -> bytes:
    out = io.BytesIO()
    with Image.open(io.BytesIO(jpeg)) as image:
        ImageEnhance.Brightness(image).enhance(0.2).save(out, "JPEG")
    return out.getvalue()


def measured(*, auroc=(0.6, 0.8), verdict="better than guessing", coverage=(0.85, 0.95), gain=(-0.1, 0.1), unsafe=0.02):
    before = {"coverage": list(coverage), "unsafe_rate": [unsafe, 0.5]}
    return {
        "asked": {"coverage": 0.9, "unsafe_rate": 0.05},
        "after": {"loss": 0.9, "auroc": float(np.mean(auroc))},
        "guessing": {"loss": 1.0, "verdict": verdict},
        "intervals": {"before": before, "after": {"auroc": list(auroc)}, "difference": {"loss": list(gain)}},
    }


@pytest.mark.parametrize(
    ("changes", "photographs", "decision", "reason"),
    [
        ({}, 40, "use as is", "nothing that was promised"),
        ({"coverage": (0.6, 0.7)}, 40, "recalibrate", r"hold at most 70\.0%"),
        ({"coverage": (None, None)}, 40, "recalibrate", "no sets"),
        ({"unsafe": 0.2}, 40, "recalibrate", r"at least 20\.0% of types 2 and 3"),
        ({"gain": (-0.5, -0.3)}, 40, "recalibrate", r"lowers the loss by at least 0\.300"),
        ({"auroc": (0.45, 0.6)}, 49, "do not use", r"from 0\.45 on; 0\.5 is chance"),
        ({"auroc": (0.45, 0.6)}, 50, "fine-tune", "chance"),
        ({"verdict": "worse than guessing", "coverage": (0.6, 0.7)}, 80, "fine-tune", "worse than guessing"),
        ({"verdict": "cannot be told from guessing", "coverage": (0.6, 0.7)}, 80, "recalibrate", "hold at most"),
    ],
)
def test_the_decision_follows_the_rules(changes, photographs, decision, reason) -> None:
    found = decide_use(measured(**changes), photographs)
    assert found["decision"] == decision
    assert any(re.search(reason, line) for line in found["because"])
