"""Any variant of the report's tables by its name: --config=configs/system.py:crop_70.

`python -m cervix_jax.reproduce --list` names them all; `cervix_jax/experiments/report_tables.py` says what each should
reach.
"""

import ml_collections

from cervix_jax.experiments import variants


def get_config(name: str = "report") -> ml_collections.ConfigDict:
    return variants.get_config(name)
