"""Programs that are timed until they log that they are ready."""

import sys
import time

import pytest

from cervix_jax.benchmarks import startup


def test_the_time_until_a_line_is_that_of_the_line(tmp_path) -> None:
    code = "import time; print('other'); print('ready', flush=True); time.sleep(1)"
    start = time.perf_counter()
    seconds = startup._until_line([sys.executable, "-c", code], "ready", str(tmp_path))
    assert 0 < seconds < time.perf_counter() - start - 0.2  # without what the program does afterwards


def test_a_program_that_fails_is_an_error_with_its_message(tmp_path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such thing')"]
    with pytest.raises(startup.StartError, match="no such thing"):
        startup._until_line(command, "ready", str(tmp_path))
    with pytest.raises(startup.StartError, match="unknown"):
        startup._whole([sys.executable, "-c", "import sys; print('unknown', file=sys.stderr); sys.exit(2)"])
