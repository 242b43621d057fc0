"""Where the software keeps what it can make or fetch again: published weights, compiled programs."""

import os
from pathlib import Path

import platformdirs

VARIABLE = "CERVIX_JAX_CACHE"


def cache_dir() -> Path:
    """The folder that the environment's CERVIX_JAX_CACHE names, or `cervix_jax` in the user's cache."""
    return Path(os.environ.get(VARIABLE) or platformdirs.user_cache_dir("cervix_jax")).expanduser().absolute()
