"""One holder at a time, between processes; free again when the holder ends, however it ends."""

import contextlib
import subprocess
import sys

import pytest

from cervix_jax.lock import LockedError, exclusive

HOLDER = """
import pathlib, sys
from cervix_jax.lock import exclusive
with exclusive(pathlib.Path(sys.argv[1]), "it"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_another_holder_is_named_until_it_dies(tmp_path, holder) -> None:
    lock = exclusive(tmp_path / "lock", "the folder")
    with pytest.raises(LockedError, match=rf"the folder is in use by process {holder.pid} on "):
        lock.__enter__()
    holder.kill()
    holder.wait()
    with exclusive(tmp_path / "lock", "the folder"):
        pass


def test_who_waits_gets_it_once_it_is_free(tmp_path, holder, capsys) -> None:
    waiting = subprocess.Popen(
        [sys.executable, "-c", HOLDER.replace('"it"', '"it", wait=True'), tmp_path / "lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert f"waiting for it, which is in use by process {holder.pid}" in waiting.stderr.readline()
    holder.communicate("")
    assert waiting.stdout.readline() == "held\n"
    waiting.communicate("")


def test_a_holder_of_this_process_counts_and_errors_release(tmp_path) -> None:
    path = tmp_path / "new/lock"
    with contextlib.suppress(ZeroDivisionError), exclusive(path, "it"):
        with pytest.raises(LockedError):
            exclusive(path, "it").__enter__()
        raise ZeroDivisionError
    path.write_text("damaged")
    with exclusive(path, "it"):
        pass
