"""The frame of a program, in its own process: results, statuses and messages; `test_programs.py` has the programs."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, signal, sys
from absl import flags
from cervix_jax.cli import app
from cervix_jax.errors import Interrupted, UserError
from cervix_jax.progress import log, silence

def fail(error):
    raise error

def interrupt():
    os.kill(os.getpid(), signal.SIGTERM)

CONFIG = app.config_flag() if {config} else None
app.run(lambda: {result})
"""


def run(result: str, *arguments: str, config: bool = False, **environment: str) -> tuple[int, str, str]:
    """Status, standard output and standard error of a program whose `main` evaluates an expression."""
    command = [sys.executable, "-c", PROGRAM.format(result=result, config=config), *arguments]
    environment = os.environ | environment
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_result_is_json_and_logs_go_to_standard_error() -> None:
    status, out, err = run("log('working') or {'loss': 0.5, 'names': ('a', None)}")
    assert (status, err) == (0, "working\n")
    assert json.loads(out) == {"loss": 0.5, "names": ["a", None]}


@pytest.mark.parametrize(
    ("call", "arguments", "shown"),
    [
        ("main)", [], "loss   0.5\r\nnames  a, -\r\n"),
        ("main)", ["--json"], '{"loss": 0.5, "names": ["a", null]}\r\n'),
        ("main, shows_its_result=True)", [], ""),
    ],
)
def test_a_terminal_shows_tables_unless_json_is_asked_for(call: str, arguments: list[str], shown: str) -> None:
    code = f"from cervix_jax.cli import app\nmain = lambda: {{'loss': 0.5, 'names': ('a', None)}}\napp.run({call}"
    terminal, end = pty.openpty()
    with os.fdopen(terminal, "rb", buffering=0) as screen:
        command = [sys.executable, "-c", code, *arguments]
        with os.fdopen(end, "wb") as out:
            subprocess.run(command, cwd=ROOT, stdout=out, check=True)
            out.write(b"$")  # so that there is something to read
        text = b""
        while not text.endswith(b"$"):
            text += screen.read(1024)
    assert text.decode() == f"{shown}$"


@pytest.mark.parametrize(
    ("result", "status", "message"),
    [
        ("fail(UserError('no such file'))", 2, "error: no such file\n"),
        ("fail(Interrupted('stopped and saved'))", 130, "stopped and saved\n"),
        ("fail(UserError('what is wrong', 'long\\nadvice'))", 2, "long\nadvice\nerror: what is wrong\n"),
        ("fail(OSError(28, 'No space left on device', 'runs/a'))", 2, "error: runs/a: No space left on device\n"),
        ("fail(PermissionError('no'))", 2, "error: no\n"),
        (
            "fail(RuntimeError(\"Unable to initialize backend 'cuda': none\"))",
            2,
            "error: JAX finds no such device: Unable to initialize backend 'cuda': none\n",
        ),
        ("fail(KeyboardInterrupt())", 130, "interrupted\n"),
        ("interrupt()", 130, "interrupted\n"),
        ("silence() or {'a': 1}", 0, ""),
        ("silence() or fail(Interrupted('stopped and saved'))", 130, ""),
    ],
)
def test_how_a_program_ends(result: str, status: int, message: str) -> None:
    assert run(result) == (status, "", message)


def test_a_bug_shows_its_traceback() -> None:
    status, out, err = run("fail(ValueError('a bug'))")
    assert (status, out) == (1, "")
    assert "Traceback" in err
    assert "ValueError: a bug" in err


TUNED = ("GLIBC_TUNABLES", "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages are asked for on Linux only")
def test_huge_pages_and_a_cache_of_programs_are_set_unless_the_user_has_set_them(monkeypatch) -> None:
    variables = f"{{name: os.environ.get(name) for name in {TUNED}}}"
    theirs = dict(zip(TUNED, ("glibc.malloc.check=0", "/theirs", "5"), strict=True))
    assert json.loads(run(variables, **theirs)[1]) == theirs
    for name in TUNED:
        monkeypatch.delenv(name, raising=False)
    ours = json.loads(run(variables, CERVIX_JAX_CACHE="/cache")[1])
    assert ours == dict(zip(TUNED, ("glibc.malloc.hugetlb=1", "/cache/compiled", "0.1"), strict=True))


def test_flags_of_the_config_can_be_passed_on() -> None:
    given = ["--config", "configs/report.py", "--config.model.widths=(4,)", "--config.optimizer.l2", "0.25"]
    status, out, err = run("{'flags': app.given_config_flags()}", *given, config=True)
    assert status == 0, err
    passed_on = json.loads(out)["flags"]
    assert sorted(passed_on) == sorted(
        ["--config=configs/report.py", "--config.model.widths=(4,)", "--config.optimizer.l2=0.25"]
    )
    assert run("{'same': CONFIG.value.model.widths == (4,)}", *passed_on, config=True)[1] == '{"same": true}\n'


def test_an_option_given_twice_has_its_last_value_and_of_tuples_no_other() -> None:
    given = [
        "--config=configs/report.py",
        "--config.model.widths=(8,)",
        "--config.seed=3",
        "--config.model.widths=(4,16)",
    ]
    status, out, err = run("{'widths': CONFIG.value.model.widths, 'seed': CONFIG.value.seed}", *given, config=True)
    assert status == 0, err
    assert json.loads(out) == {"widths": [4, 16], "seed": 3}


def test_a_mistyped_option_is_said_with_what_may_have_been_meant() -> None:
    status, _, err = run("{}", "--config=configs/report.py", "--config.epoch=3", config=True)
    assert (status, err) == (2, "error: no option config.epoch; did you mean config.epochs?\n")
