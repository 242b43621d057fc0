"""What is logged, and what a silenced process does not log."""

import io
import logging

import pytest

from cervix_jax import progress


@pytest.fixture
def logger():
    logger = logging.getLogger("cervix_jax")
    level = logger.level
    yield logger
    logger.setLevel(level)


def test_messages_are_lines_on_standard_error(capsys) -> None:
    progress.log("50 % of {all}")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "50 % of {all}\n")


def test_other_hosts_are_silent(capsys, logger) -> None:
    assert not progress.is_silenced()
    progress.silence()
    assert progress.is_silenced()
    progress.log("a message")
    assert capsys.readouterr().err == ""
    logger.setLevel(logging.INFO)
    assert not progress.is_silenced()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("silenced", [False, True])
def test_terminals_show_a_bar_unless_silenced(monkeypatch, logger, silenced: bool) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    if silenced:
        progress.silence()
    bar = progress.Progress(epoch=2, epochs=3, steps=10, done=4)
    bar.update()
    bar.close()
    assert ("epoch 2/3" in terminal.getvalue()) is not silenced
    assert ("4/10" in terminal.getvalue()) is not silenced


def test_files_have_a_line_from_time_to_time(monkeypatch, capsys) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    lines = progress.Progress(epoch=1, epochs=3, steps=10, done=0)
    for _ in range(4):
        now[0] += 20
        lines.update()
    lines.close()
    assert capsys.readouterr().err == "epoch 1/3: step 2/10\nepoch 1/3: step 4/10\n"
