"""Downloads published ImageNet weights once, into the user's cache.

A file is identified by its SHA-256, so it does not matter who serves it or who put it into the cache.
"""

import logging
import sys
from pathlib import Path

import pooch

from cervix_jax.cache import cache_dir
from cervix_jax.models.backbones.spec import PretrainedWeights
from cervix_jax.models.weights.strict_loading import WeightsError


def fetch(backbone: str, weights: PretrainedWeights) -> Path:
    """Path of a published file, downloaded unless it is in the cache; its contents have the published SHA-256.

    Args:
        backbone: for messages.
        weights: what to fetch.

    Raises:
        WeightsError: it cannot be downloaded, or the file in the cache or from the server is another; with the way out.
    """
    path = cache_dir() / weights.file_name
    by_hand = (
        f"The published weights of {backbone} are at {weights.url} ({weights.num_bytes / 1e6:.0f} MB, SHA-256 "
        f"{weights.sha256}): put the file at {path} by hand, or pass it, or weights of your own, with "
        "--config.model.backbone.weights=PATH."
    )
    try:
        if path.exists():
            digest = pooch.file_hash(str(path))
            if digest != weights.sha256:
                raise WeightsError(f"{path} has SHA-256 {digest}, not {weights.sha256}: remove it. {by_hand}")
            return path
        pooch.get_logger().setLevel(logging.WARNING)  # it logs every download
        # Into a temporary file beside it, checked, then moved: a file in the cache is complete.
        pooch.retrieve(
            weights.url,
            f"sha256:{weights.sha256}",
            weights.file_name,
            path.parent,
            progressbar=sys.stderr.isatty(),
        )
    except WeightsError:
        raise
    except (OSError, ValueError) as error:  # requests' exceptions are OSErrors; a wrong digest is a ValueError
        raise WeightsError(f"{weights.url} could not be fetched: {error}. {by_hand}") from error
    return path
