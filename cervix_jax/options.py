"""Lists every option of a run with its default and meaning, and the configs; of a config, its values.

python -m cervix_jax.options --config=configs/report.py
"""

from pathlib import Path
from typing import Any

from absl import flags

from cervix_jax.cli import app

CONFIG = flags.DEFINE_string("config", None, "Show the options that this configuration file sets.")


def main() -> dict[str, Any]:
    from cervix_jax.cli import option_list

    if CONFIG.value is not None:
        return option_list.show_config(Path(CONFIG.value))
    return option_list.show_options(Path("configs"))


if __name__ == "__main__":
    app.run(main, shows_its_result=True)
