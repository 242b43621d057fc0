"""Unfamiliar photographs: SciPy's distances as the oracle, uniform ranks of the familiar, and runs that cannot tell."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from cervix_jax.datasets.quality import RETAKE
from cervix_jax.inference.decisions import DecisionRule, predict
from cervix_jax.inference.outliers import EMBEDDINGS, NEIGHBOURS, EmbeddingReference, EmbeddingsError


def embeddings(count: int, seed: int, away: float = 0.0):
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [np.full((count, 1), 1.0), rng.normal(away, 1, (count, 4)), np.full((count, 1), -away)], axis=1
    )


def test_scores_are_mean_cosine_similarities_to_the_nearest() -> None:
    reference = EmbeddingReference(embeddings(60, 0))
    cosine = cdist(reference.embeddings, reference.embeddings, "cosine")
    np.fill_diagonal(cosine, np.inf)
    expected = np.sort(1 - np.sort(cosine, axis=1)[:, :NEIGHBOURS].mean(axis=1))
    np.testing.assert_allclose(reference.own_scores, expected, atol=1e-12)


def test_the_familiar_have_any_rank_and_strangers_the_lowest() -> None:
    reference = EmbeddingReference(embeddings(400, 0))
    ranks = reference.ranks(embeddings(400, 1))
    assert abs(ranks.mean() - 0.5) < 0.06
    assert np.mean(ranks < 0.1) < 0.16
    assert (reference.ranks(embeddings(20, 2, away=9.0)) < RETAKE).all()
    assert reference.ranks(embeddings(20, 3)).min() >= 1 / 401


def test_a_new_woman_is_not_less_familiar_than_one_of_many_photographs() -> None:
    rng = np.random.default_rng(0)
    women, new = (rng.normal(size=(count, 64)) for count in (75, 500))
    photographs = np.repeat(women, 4, axis=0) + 0.5 * rng.normal(size=(300, 64))
    ranks = EmbeddingReference(photographs, np.repeat(np.arange(75), 4)).ranks(new + 0.5 * rng.normal(size=new.shape))
    assert np.mean(ranks < 0.1) < 0.2


def test_a_reference_is_kept_with_its_checkpoint(tmp_path) -> None:
    reference = EmbeddingReference(embeddings(30, 0))
    assert EmbeddingReference.load(tmp_path, "this") is None
    reference.save(tmp_path, "this")
    np.testing.assert_allclose(EmbeddingReference.load(tmp_path, "this").one_of_each, reference.embeddings, atol=1e-6)
    dataclasses.replace(reference, groups=np.arange(30) // 3).save(tmp_path, "this")
    kept = EmbeddingReference.load(tmp_path, "this")
    np.testing.assert_allclose(kept.embeddings, reference.embeddings, atol=1e-6)
    np.testing.assert_allclose(kept.one_of_each, reference.embeddings[::3], atol=1e-6)
    assert EmbeddingReference.load(tmp_path, "that") is None
    damaged = bytearray((tmp_path / EMBEDDINGS).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / EMBEDDINGS).write_bytes(damaged)
    with pytest.raises(EmbeddingsError, match=r"calibrate writes it again"):
        EmbeddingReference.load(tmp_path, "this")


@pytest.fixture
def with_reference(predictor, validation, tmp_path):
    moved = dataclasses.replace(predictor, members=(dataclasses.replace(predictor.members[0], workdir=tmp_path),))
    validation.save_embeddings(moved)
    assert (tmp_path / EMBEDDINGS).exists()
    return dataclasses.replace(moved)


def test_embeddings_are_what_the_last_layer_reads(predictor, validation) -> None:
    photographs = list(validation.photographs)
    (found,) = predictor.embeddings(photographs)
    layer = predictor.members[0].variables["params"]["head"]["logits"]
    logits = found @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), predictor.probabilities(photographs), atol=1e-5)
    mirrored = dataclasses.replace(predictor, augmentations=("flips",))
    np.testing.assert_allclose(mirrored.distributions(photographs).embeddings[0], found, atol=1e-5)


def test_familiarity_needs_no_second_look(with_reference, validation) -> None:
    """One pass of the network gives probabilities and what `familiarity` needs."""
    batches, (member,) = [], with_reference.members

    def counting(variables, images):
        batches.append(len(images))
        return member.forward(variables, images)

    counted = dataclasses.replace(with_reference, members=(dataclasses.replace(member, forward=counting),))
    predict(counted, DecisionRule(), ["a", "b"], list(validation.photographs)[:2], 2)
    assert batches == [2]


def test_the_unfamiliar_are_to_be_taken_again_and_old_runs_cannot_tell(
    predictor, with_reference, manual_dir, monkeypatch, capsys
) -> None:
    photographs = [
        with_reference.read(path, with_features=True) for path in sorted((manual_dir / "test").iterdir())[:2]
    ]
    monkeypatch.setattr(type(with_reference), "familiarity", lambda *_: np.array([0.5, 0.001]))
    usual, unfamiliar = predict(with_reference, DecisionRule(), ["a", "b"], photographs, 8)
    assert "unlike what the network knows" in unfamiliar.retake
    assert "unlike what the network knows" not in usual.retake
    assert unfamiliar.quality == 0.001
    monkeypatch.undo()
    embeddings = with_reference.embeddings(photographs)
    assert with_reference.familiarity(embeddings).shape == (2,)
    assert dataclasses.replace(predictor).familiarity(embeddings) is None
    assert "unfamiliar photographs are not recognised" in capsys.readouterr().err
