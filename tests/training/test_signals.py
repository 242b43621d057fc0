"""Signals are only remembered, whatever they interrupt."""

import io
import signal
import sys

import pytest

from cervix_jax.training.signals import stop_signals


class InterruptedWhileWriting(io.StringIO):
    """As the interpreter's standard error: a signal may come within a write, and a write within a write fails."""

    writing = False

    def write(self, text: str) -> int:
        if self.writing:
            raise RuntimeError("reentrant call")
        self.writing = True
        signal.raise_signal(signal.SIGINT)
        self.writing = False
        return super().write(text)


def test_a_signal_within_a_message_is_remembered(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", InterruptedWhileWriting())
    with stop_signals() as asked_to_stop:
        assert not asked_to_stop()
        sys.stderr.write("epoch 1/2")
        assert asked_to_stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_handlers_are_restored(number) -> None:
    before = signal.getsignal(number)
    with stop_signals() as asked_to_stop:
        assert signal.getsignal(number) is not before
        signal.raise_signal(number)
        assert asked_to_stop()
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_stops_at_once() -> None:
    with stop_signals():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
