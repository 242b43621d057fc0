"""Serves a page on which a nurse takes a photograph and reads what may be said of it; photographs are not kept.

python -m cervix_jax.serve --workdir=runs/quickstart
"""

import os
from typing import Any

from absl import flags

from cervix_jax.cli import app, run_flags
from cervix_jax.errors import UserError
from cervix_jax.progress import log

PORT = flags.DEFINE_integer("port", 8000, "Port to listen on; 0 for any that is free.", lower_bound=0)
ADDRESS = flags.DEFINE_string("address", "127.0.0.1", "Address to listen on; others than loopback need --token.")
TOKEN = flags.DEFINE_string(
    "token", None, "Secret that requests have to bear; CERVIX_JAX_TOKEN of the environment, where it is set."
)
HOSTNAME = flags.DEFINE_multi_string("hostname", [], "Name that browsers may call this machine by.")
COVERAGE = flags.DEFINE_float("coverage", 0.9, "Probability with which prediction sets hold the true type.")
UNSAFE_RATE = flags.DEFINE_float("unsafe_rate", None, "Fraction of types 2 and 3 that may be called type 1.")
CALIBRATE = flags.DEFINE_bool("calibrate", False, "Calibrate runs first that have no calibration.")
run_flags.define_data_flags()
run_flags.define_site_flag()
flags.set_default(run_flags.BATCH_SIZE, 8)  # requests are small, and a batch is compiled for each power of two


def main() -> dict[str, Any]:
    try:
        from cervix_jax.serving import server
    except ModuleNotFoundError as error:
        raise UserError(f"serve needs {error.name}, which the extra brings: pip install 'cervix_jax[serve]'") from error
    from cervix_jax.inference.decisions import DecisionRule

    token = TOKEN.value or os.environ.get("CERVIX_JAX_TOKEN")
    server.check_token(ADDRESS.value, token)  # before what takes seconds
    predictor = run_flags.restore(calibrated=True)
    if CALIBRATE.value and predictor.calibration is None:
        log("there is no calibration of these runs: calibrating, so that the page can say that it does not know")
        run_flags.calibrate(predictor)
        predictor = run_flags.restore(calibrated=True)
    return server.serve(
        predictor,
        DecisionRule.fit(predictor.calibration, COVERAGE.value, UNSAFE_RATE.value),
        address=ADDRESS.value,
        port=PORT.value,
        token=token,
        hostnames=HOSTNAME.value,
        batch_size=run_flags.BATCH_SIZE.value,
        site=flags.FLAGS.site,
    )


if __name__ == "__main__":
    app.run(main)
