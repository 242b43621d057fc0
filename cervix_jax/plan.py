"""Compiles a run's training step for accelerators that are not at hand, and prints what it will need on them.

python -m cervix_jax.plan --config=configs/report.py --topology=v5e:16x16 --batch_per_device=32
"""

import os
from typing import Any

from absl import flags

from cervix_jax.cli import app

CONFIG = app.config_flag()
TOPOLOGY = flags.DEFINE_string(
    "topology", None, "v4:AxBxC, v5e:AxB, v5p:AxBxC, v6e:AxB, h100:GPUS, h100:HOSTSxGPUS or cpu:N.", required=True
)
BATCH_PER_DEVICE = flags.DEFINE_integer(
    "batch_per_device", None, "Images per device; sets config.batch_size.", lower_bound=1
)
LARGEST_BATCH = flags.DEFINE_bool("largest_batch", True, "Search the largest batch that fits; compiles more often.")


def main() -> dict[str, Any]:
    from cervix_jax.planning.environment import prepare_environment

    prepare_environment(os.environ, TOPOLOGY.value)
    from cervix_jax import config as options
    from cervix_jax.planning import markdown, step_plan, topologies
    from cervix_jax.progress import log

    topology = topologies.Topology.parse(TOPOLOGY.value)
    config = CONFIG.value
    if BATCH_PER_DEVICE.value is not None:
        config.batch_size = BATCH_PER_DEVICE.value * topology.size
    plan = step_plan.plan(options.validate(config), topology, largest=LARGEST_BATCH.value, log=log)
    log(markdown.markdown(plan))
    return plan


if __name__ == "__main__":
    app.run(main, shows_its_result=True)
