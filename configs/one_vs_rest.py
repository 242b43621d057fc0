"""One of three binary models, each of which tells one type from the two others (report section 15).

`--config.selection.one_vs_rest=Type_2` and `Type_3` are the other two. The report proposes them without figures.
"""

import ml_collections

from cervix_jax.experiments import variants


def get_config() -> ml_collections.ConfigDict:
    return variants.get_config("one_vs_rest_1")
