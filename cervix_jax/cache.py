"""The folder of files that can be made or downloaded again: published weights, compiled programs."""

import os
from pathlib import Path

import platformdirs

VARIABLE = "CERVIX_JAX_CACHE"


def cache_dir() -> Path:
    """CERVIX_JAX_CACHE of the environment, or `cervix_jax` in the user's cache folder; an absolute path."""
    return Path(os.environ.get(VARIABLE) or platformdirs.user_cache_dir("cervix_jax")).expanduser().absolute()
