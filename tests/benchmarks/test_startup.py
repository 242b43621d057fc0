"""Programs that are timed until they print a line, or until they exit."""

import subprocess
import sys

import pytest

from cervix_jax.benchmarks import startup

SLOW_END = """
import os, pathlib, sys
print('ready', flush=True)
pathlib.Path(sys.argv[1]).write_text(os.environ['JAX_COMPILATION_CACHE_DIR'])
"""


def test_the_time_is_until_the_first_line_but_the_program_is_waited_for(tmp_path) -> None:
    path = tmp_path / "end"
    assert startup.seconds_to_first_line([sys.executable, "-c", SLOW_END, str(path)], "cache") > 0
    assert path.read_text() == "cache"


def test_a_program_that_fails_is_an_error_with_its_message(tmp_path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such thing')"]
    with pytest.raises(startup.StartError, match="no such thing"):
        startup.seconds_to_first_line(command, str(tmp_path))
    with pytest.raises(startup.StartError, match="unknown"):
        startup.seconds_to_exit([sys.executable, "-c", "import sys; print('unknown', file=sys.stderr); sys.exit(2)"])


def test_programs_are_started_as_users_start_them(monkeypatch) -> None:
    """Without what `app.run` has set for this process, since they would not set it again."""
    monkeypatch.setenv("GLIBC_TUNABLES", "x")
    code = "import os, sys; sys.exit(2 if 'GLIBC_TUNABLES' in os.environ else 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 2
    assert startup.seconds_to_exit([sys.executable, "-c", code]) > 0
