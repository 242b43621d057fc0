"""Who is taken for lost, against a coordinator and a clock that tests move."""

import pytest

from cervix_jax.training import heartbeat
from cervix_jax.training.heartbeat import TIMEOUT_SECONDS, Heartbeat


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    return now


def test_nobody_is_lost_at_first(clock) -> None:
    watching = Heartbeat(None, 1, 3)
    assert watching.silent() == []
    clock[0] += TIMEOUT_SECONDS
    assert watching.silent() == []


def test_a_number_that_does_not_grow_is_no_sign_of_life(clock) -> None:
    watching = Heartbeat(None, 0, 3)
    watching._hear(1, 5)
    watching._hear(2, 5)
    clock[0] += TIMEOUT_SECONDS - 1
    watching._hear(1, 6)
    watching._hear(2, 5)
    clock[0] += 2
    assert watching.silent() == [2]


def test_process_0_is_lost_where_its_coordinator_does_not_answer(clock) -> None:
    """Then nothing is heard of the others either, which says nothing about them."""
    watching = Heartbeat(None, 2, 4)
    clock[0] += TIMEOUT_SECONDS + 1
    assert watching.silent() == [0]
    assert Heartbeat(None, 0, 4).silent() == []
    first = Heartbeat(None, 0, 4)
    clock[0] += TIMEOUT_SECONDS + 1
    assert first.silent() == [1, 2, 3]


class Coordinator:
    """A key-value store that now and then does not answer."""

    def __init__(self, silent_at: tuple[int, ...] = ()):
        self.values, self._silent_at = {"cervix_jax/alive/0": "7"}, silent_at

    def key_value_set(self, key: str, value: str, allow_overwrite: bool) -> None:
        assert allow_overwrite
        if int(value) in self._silent_at:
            raise RuntimeError("UNAVAILABLE")
        self.values[key] = value

    def key_value_dir_get(self, folder: str) -> list[tuple[str, str]]:
        return [(key, value) for key, value in self.values.items() if key.startswith(folder)]


def test_exchanges_write_growing_numbers_and_hear_those_of_the_others(clock, monkeypatch) -> None:
    coordinator = Coordinator(silent_at=(3, 4, 11))
    watching = Heartbeat(coordinator, 1, 2)
    written = []

    def pass_time(seconds: float) -> bool:
        clock[0] += seconds
        written.append(coordinator.values["cervix_jax/alive/1"])
        return len(written) == 20

    monkeypatch.setattr(watching._over, "wait", pass_time)
    watching._exchange()
    assert written == [str({3: 2, 4: 2, 11: 10}.get(n, n)) for n in range(20)]
    assert watching._heard[0][0] == 7
    assert watching.silent() == []  # it has answered just now
    clock[0] += TIMEOUT_SECONDS + 1
    assert watching.silent() == [0]


def test_no_thread_is_left_when_it_is_closed() -> None:
    watching = Heartbeat(Coordinator(), 1, 2)
    watching.start()
    watching.leave()
    watching.close()
    assert not any(thread.is_alive() for thread in watching._threads)
    assert watching.silent() == []
