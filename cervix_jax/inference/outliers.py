"""Which photographs are unlike any that a network has learned from, by what it has before its last layer.

The reference is the run's held-out photographs (made by `calibrate`, kept with the run): training photographs look too
familiar. The score is the mean cosine similarity to the nearest of them; a rank below `quality.RETAKE` says that the
photograph should be taken again, or shows no cervix. Nearest neighbours (Sun et al. 2022) rather than Mahalanobis'
distance, by AUROC on pictures of another camera and of no cervix: 0.86 and 1.00 against 0.81 and 0.95; of the drawn
photographs, which are unlike either, 0.75 against 0.89.
"""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cervix_jax.atomic import open_atomic
from cervix_jax.errors import UserError

EMBEDDINGS = "embeddings.npz"  # in the work directory of a run
NEIGHBOURS = 10


class EmbeddingsError(UserError):
    """What tells unfamiliar photographs is damaged."""


@dataclasses.dataclass(frozen=True)
class EmbeddingReference:
    """What a network has before its last layer of photographs that it has not learned from.

    Attributes:
      embeddings: a row a photograph.
      groups: near-duplicates and the photographs of a case have the same number; None in older files, for each alone.
    """

    embeddings: Float[np.ndarray, "m d"]
    groups: Int[np.ndarray, "m"] | None = None

    @property
    def one_of_each(self) -> Float[np.ndarray, "g d"]:
        """Embeddings of the first photograph of each group: those that are independent of each other."""
        return self.embeddings if self.groups is None else self.embeddings[first_of_each(self.groups)]

    @property
    def own_scores(self) -> Float[np.ndarray, "m"]:
        """Scores of one photograph of each group, each among the others, sorted."""
        similarity = _similarity(self.one_of_each, self.one_of_each)
        np.fill_diagonal(similarity, -np.inf)
        return np.sort(_nearest(similarity))

    def ranks(self, embeddings: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n"]:
        """Fraction of the groups, and the photograph itself, that is at most as familiar, above 0 and at most 1."""
        own, scores = self.own_scores, _nearest(_similarity(embeddings, self.one_of_each))
        return (1 + np.searchsorted(own, scores, side="right")) / (1 + len(own))

    def save(self, workdir: Path, digest: str) -> None:
        """Writes an NPZ file without pickles for the run whose `Member.digest` is given."""
        with open_atomic(workdir / EMBEDDINGS, "wb") as file:
            arrays = {"embeddings": self.embeddings.astype(np.float32), "digest": np.array(digest)}
            np.savez(file, allow_pickle=False, **arrays | ({} if self.groups is None else {"groups": self.groups}))

    @classmethod
    def load(cls, workdir: Path, digest: str) -> "EmbeddingReference | None":
        """Reads what `save` wrote; None if there is none, or it is of another checkpoint.

        Raises:
          EmbeddingsError: the file is damaged.
        """
        path = workdir / EMBEDDINGS
        if not path.exists():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                reference = cls(arrays["embeddings"].astype(float), arrays.get("groups"))
                of_digest = str(arrays["digest"])
        except Exception as error:  # as many kinds as there are ways to damage it
            raise EmbeddingsError(f"{path} is damaged; python -m cervix_jax.calibrate writes it again") from error
        return reference if of_digest == digest else None


def first_of_each(groups: Int[np.ndarray, "n"]) -> Int[np.ndarray, "m"]:
    """The row of the first photograph of each group."""
    return np.sort(np.unique(groups, return_index=True)[1])


def _similarity(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (a, b))
    return a @ b.T


def _nearest(similarity: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "n"]:
    """Mean of the largest NEIGHBOURS of each row."""
    k = min(NEIGHBOURS, similarity.shape[1] - 1)
    return np.partition(similarity, -k, axis=1)[:, -k:].mean(axis=1)
