"""How unlike the photographs of a site are to those that runs were trained on, and what to do about it.

Features of quality control are compared one by one (Kolmogorov-Smirnov, corrected by Holm's rule), and what the network
sees as a whole: the maximum mean discrepancy between embeddings of its held-out photographs and of the site's, by
permutation (Gretton et al. 2012). Of each case one photograph takes part, since those of a case are not
independent; only the features of the training set are those of all its photographs, so that of a run that was trained
on several photographs a case their p-values are too small. A test that finds nothing says little without its power: how
often it finds a shift that is known, at this number of photographs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.distance import cdist
from scipy.stats import ks_2samp

from cervix_jax.datasets.quality import QualityReference
from cervix_jax.inference.clinical_metrics import auroc
from cervix_jax.inference.outliers import first_of_each
from cervix_jax.inference.photograph import Photograph
from cervix_jax.inference.predictor import Predictor

LEVEL = 0.05  # of tests
PERMUTATIONS, TRIALS = 500, 100
KNOWN_SHIFT = 0.5  # standard deviations along the first principal axis, of which the power is given
MIN_FINE_TUNING = 50  # photographs; with fewer it was not tried


def shift(reference: QualityReference, photographs: Sequence[Photograph]) -> dict[str, Any]:
    """How far photographs are from those that a run was trained on, by the features of cleaning and quality control.

    Args:
      reference: of the run.
      photographs: with features.

    Returns:
      `scores`: by feature, the `median` here, the `training_median`, and `auroc`: the probability that a photograph
      from here has less than one of the training set (0.5: no shift; densities of the training set are cross-fitted);
      `retake`: how many would be flagged, by reason.
    """
    assessments = [reference.assess(p.features, p.located[0]) for p in photographs if p.features is not None]
    scores = {}
    for name, trained_on in reference.values.items():
        values = np.array([assessment.values[name] for assessment in assessments])
        trained = np.concatenate([np.zeros(len(values), bool), np.ones(len(trained_on), bool)])
        scores[name] = {
            "median": float(np.median(values)),
            "training_median": float(np.median(trained_on)),
            "auroc": auroc(np.concatenate([values, trained_on]), trained),
        }
    del scores["brightness"]  # darkness with another sign
    reasons = [reason for assessment in assessments for reason in assessment.retake.split(" | ") if reason]
    retake = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    return {"scores": scores, "retake": retake | {"photographs": sum(bool(a.retake) for a in assessments)}}


def feature_tests(reference: QualityReference, photographs: Sequence[Photograph]) -> dict[str, float]:
    """p-values of Kolmogorov-Smirnov tests of quality features by name, corrected by Holm's rule for their number."""
    assessed = [reference.assess(p.features, p.located[0]) for p in photographs if p.features is not None]
    names = [name for name in reference.values if name != "brightness"]  # which is darkness with another sign
    raw = {name: ks_2samp([each.values[name] for each in assessed], reference.values[name]).pvalue for name in names}
    corrected, least = {}, 0.0
    for i, name in enumerate(sorted(raw, key=lambda name: float(raw[name]))):
        least = max(least, min(1.0, float(raw[name]) * (len(raw) - i)))
        corrected[name] = least
    return corrected


def shift_tests(
    predictor: Predictor, photographs: Sequence[Photograph], groups: Int[np.ndarray, "n"], batch_size: int = 32
) -> dict[str, Any]:
    """Tests of whether photographs are like those that runs were trained on, one photograph a case.

    Returns:
      `photographs` that take part; `features`: p-values by name, see `feature_tests`; `embeddings`: `embedding_test`,
      of several runs the median of each number; either None where a run has recorded nothing to compare with.
    """
    chosen = [photographs[i] for i in first_of_each(groups).tolist()]
    quality, known = predictor.quality_reference, predictor.embedding_references
    results: dict[str, Any] = {"photographs": len(chosen), "features": None, "embeddings": None}
    if quality is not None:
        results["features"] = feature_tests(quality, chosen)
    if known is not None:
        pairs = zip(known, predictor.embeddings(chosen, batch_size), strict=True)
        tests = [embedding_test(reference.one_of_each, site.astype(float)) for reference, site in pairs]
        results["embeddings"] = {name: float(np.median([test[name] for test in tests])) for name in tests[0]}
    return results


def embedding_test(
    reference: Float[np.ndarray, "m d"], site: Float[np.ndarray, "n d"], *, seed: int = 0
) -> dict[str, float]:
    """The two-sample test of embeddings, a row a case.

    Returns:
      `mmd`: the squared discrepancy of a Gaussian kernel as wide as the median distance; `p`: by permutation; `power`:
      fraction of trials in which as many photographs of the reference as the site has, moved by KNOWN_SHIFT, are told
      from the rest of it at LEVEL.
    """
    rng = np.random.default_rng(seed)
    scale = reference.std(axis=0) + 1e-6
    reference, site = reference / scale, site / scale
    both = np.concatenate([reference, site])
    mmd, p = _mmd_test(cdist(both, both, "sqeuclidean"), np.arange(len(both)) >= len(reference), rng, PERMUTATIONS)
    centred = reference - reference.mean(axis=0)
    along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    step, size, found = KNOWN_SHIFT * float(along.std()), min(len(site), len(reference) // 2), 0
    squares = cdist(reference, reference, "sqeuclidean")
    for _ in range(TRIALS):
        moved = np.zeros(len(reference), bool)
        moved[rng.permutation(len(reference))[:size]] = True
        by = step * np.subtract.outer(moved.astype(float), moved.astype(float))
        of_moved = squares + 2 * by * np.subtract.outer(along, along) + by**2
        found += _mmd_test(of_moved, moved, rng, TRIALS)[1] <= LEVEL
    return {"mmd": mmd, "p": p, "power": found / TRIALS}


def _mmd_test(
    squares: Float[np.ndarray, "m m"], of_second: Bool[np.ndarray, "m"], rng: np.random.Generator, permutations: int
) -> tuple[float, float]:
    """Squared discrepancy (biased, so never negative) and its p-value, from squared distances."""
    kernel = np.exp(-squares / np.median(squares))
    weights = np.where(of_second, -1 / of_second.sum(), 1 / (~of_second).sum())
    drawn = np.stack([weights, *(rng.permutation(weights) for _ in range(permutations))])
    values = np.einsum("pi,pi->p", drawn @ kernel, drawn)
    return float(values[0]), float((values >= values[0] - 1e-12).mean())


def decide_use(measured: Mapping[str, Any], photographs: int) -> dict[str, Any]:
    """What to do at a site, by what `site_report.compare_said` measured there, and why.

    The rules, the first that fits:

    1. After recalibration the types cannot be told apart (its AUROC's interval reaches 0.5, or its loss is worse than
       guessing): 'fine-tune' with at least MIN_FINE_TUNING photographs, else 'do not use'.
    2. What the runs say as they are keeps what was asked for (sets, the unsafe rate) and recalibration does not lower
       the loss, as far as can be told: 'use as is'.
    3. 'recalibrate'.

    Args:
      measured: with `asked`.
      photographs: of known type.

    Returns:
      `decision` and `because`: reasons, a line each.
    """
    after, limits, asked = measured["after"], measured["intervals"], measured["asked"]
    guessing, low = measured["guessing"], limits["after"]["auroc"][0]
    if guessing["verdict"] == "worse than guessing" or low is None or low <= 0.5:
        because = [
            f"recalibrated, its loss is {after['loss']:.3f}: {guessing['verdict']} ({guessing['loss']:.3f})",
            f"AUROC {after['auroc']:.2f}, from {low:.2f} on; 0.5 is chance" if low is not None else "no AUROC",
        ]
        return {"decision": "fine-tune" if photographs >= MIN_FINE_TUNING else "do not use", "because": because}
    because = []
    before = limits["before"]
    if before["coverage"][1] is None:
        because.append("there is no calibration of these runs, so no sets")
    elif before["coverage"][1] < asked["coverage"]:
        because.append(f"sets hold at most {before['coverage'][1]:.1%} of the types, not {asked['coverage']:.0%}")
    if asked["unsafe_rate"] is not None and before["unsafe_rate"][0] > asked["unsafe_rate"]:
        because.append(f"at least {before['unsafe_rate'][0]:.1%} of types 2 and 3 are called type 1")
    if limits["difference"]["loss"][1] < 0:
        because.append(f"recalibration lowers the loss by at least {-limits['difference']['loss'][1]:.3f}")
    if because:
        return {"decision": "recalibrate", "because": because}
    return {"decision": "use as is", "because": ["nothing that was promised is known to be broken"]}
