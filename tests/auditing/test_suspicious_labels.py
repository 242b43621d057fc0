"""Confident learning: its definition, planted label errors, and files that hold no predictions."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cervix_jax.auditing.suspicious_labels import PredictionsError, confident_types, suspicious_findings
from cervix_jax.labels import CLASS_NAMES


def test_thresholds_are_the_mean_confidence_in_each_label() -> None:
    """Type 0 needs 0.6, type 1 only 0.4: so (0.5, 0.45) counts as confident of type 1 though 0 is likelier."""
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.6, 0.4], [0.5, 0.5], [0.65, 0.35]])
    labels = np.array([0, 0, 1, 1, 1, 1])
    # thresholds: type 0 (0.9 + 0.3) / 2 = 0.6; type 1 (0.4 + 0.4 + 0.5 + 0.35) / 4 = 0.4125
    np.testing.assert_array_equal(confident_types(probabilities, labels), [0, 1, 0, 0, 1, 0])
    assert confident_types(np.array([[0.9, 0.1], [0.55, 0.45], [0.2, 0.8]]), np.array([0, 0, 1]))[1] == -1


@given(seed=st.integers(0, 1000))
def test_planted_errors_are_found_and_nothing_else(seed) -> None:
    """Of a model that is right and equally sure everywhere, the contradicted labels are just the wrong ones."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat([0, 1, 2], 20))
    labels = truth.copy()
    wrong = rng.choice(60, 5, replace=False)
    labels[wrong] = (truth[wrong] + rng.integers(1, 3, 5)) % 3
    probabilities = np.full((60, 3), 0.1)
    probabilities[np.arange(60), truth] = 0.8
    types = confident_types(probabilities, labels)
    np.testing.assert_array_equal(np.flatnonzero(types != labels), np.sort(wrong))


def test_findings_name_both_types_the_most_contradicted_first(audit, tmp_path) -> None:
    manifest = audit.manifest
    labelled = np.flatnonzero(manifest.labels >= 0)
    probabilities = np.full((len(manifest.names), 3), 0.1)
    probabilities[labelled, manifest.labels[labelled]] = 0.8
    first, second = labelled[[3, 5]].tolist()
    for i, sure in ((first, 0.9), (second, 0.95)):
        other = (manifest.labels[i] + 1) % 3
        probabilities[i] = (1 - sure) / 2
        probabilities[i, other] = sure
    table = tmp_path / "oof.csv"
    rows = [f"{manifest.names[i]},{','.join(map(str, probabilities[i]))}" for i in labelled]
    table.write_text("\n".join([f"image_name,{','.join(CLASS_NAMES)}", *rows]))
    found = list(suspicious_findings(manifest, table))
    assert [name for _, name, _ in found] == [manifest.names[second], manifest.names[first]]
    given_type, other_type = CLASS_NAMES[manifest.labels[second]], CLASS_NAMES[(manifest.labels[second] + 1) % 3]
    assert found[0][2] == f"labelled {given_type} 0.03, predicted {other_type} 0.95"


@pytest.mark.parametrize("content", ["", "image_name,Type_1\na.jpg,1", "image_name,Type_1,Type_2,Type_3\na.jpg,x,0,0"])
def test_other_files_are_refused(audit, tmp_path, content) -> None:
    table = tmp_path / "other.csv"
    table.write_text(content)
    with pytest.raises(PredictionsError, match=r"other\.csv"):
        list(suspicious_findings(audit.manifest, table))
    with pytest.raises(PredictionsError, match="missing"):
        list(suspicious_findings(dataclasses.replace(audit.manifest), tmp_path / "missing.csv"))
