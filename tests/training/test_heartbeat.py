"""Which processes count as lost, with a coordinator and a clock that the tests control."""

import threading

import pytest

from cervix_jax.training.heartbeat import TIMEOUT_SECONDS, Heartbeat


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Coordinator:
    """A key-value store that does not answer while `silent`."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.silent = False

    def key_value_set(self, key: str, value: str, allow_overwrite: bool) -> None:
        assert allow_overwrite
        if self.silent:
            raise RuntimeError("UNAVAILABLE")
        self.values[key] = value

    def key_value_dir_get(self, directory: str) -> list[tuple[str, str]]:
        return [(key, value) for key, value in self.values.items() if key.startswith(directory)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def heartbeats(clock: Clock, count: int) -> list[Heartbeat]:
    coordinator = Coordinator()
    return [Heartbeat(coordinator, i, count, clock=clock) for i in range(count)]


def test_no_process_is_lost_at_the_start(clock: Clock) -> None:
    _, heartbeat, _ = heartbeats(clock, 3)
    assert heartbeat.silent() == []
    clock.now += TIMEOUT_SECONDS
    assert heartbeat.silent() == []


def test_a_process_whose_number_does_not_grow_is_lost(clock: Clock) -> None:
    processes = heartbeats(clock, 3)
    for process in (*processes, processes[0]):
        process.beat(5)
    clock.now += TIMEOUT_SECONDS - 1
    processes[1].beat(6)
    processes[2].beat(5)
    clock.now += 2
    processes[0].beat(6)
    assert processes[0].silent() == [2]


def test_process_0_is_lost_if_the_coordinator_in_it_does_not_answer(clock: Clock) -> None:
    """Then nothing is received from the others either, which is no evidence that they are lost."""
    first, _, third, _ = heartbeats(clock, 4)
    clock.now += TIMEOUT_SECONDS + 1
    assert third.silent() == [0]
    assert first.silent() == [1, 2, 3]


def test_a_coordinator_that_misses_some_requests_is_not_lost(clock: Clock) -> None:
    coordinator = Coordinator()
    first, second = (Heartbeat(coordinator, i, 2, clock=clock) for i in range(2))
    for number in range(20):
        coordinator.silent = number in (3, 4, 11)
        first.beat(number)
        second.beat(number)
        expected = {3: 2, 4: 2, 11: 10}.get(number, number)
        assert set(coordinator.values.values()) == {str(expected)}
        assert first.silent() == second.silent() == []
        clock.now += 2
    coordinator.silent = True
    clock.now += TIMEOUT_SECONDS + 1
    second.beat(20)
    assert second.silent() == [0]


def test_no_thread_is_left_after_close() -> None:
    before = set(threading.enumerate())
    heartbeat = Heartbeat(Coordinator(), 1, 2)
    heartbeat.start()
    assert len(set(threading.enumerate()) - before) == 2
    heartbeat.leave()
    heartbeat.close()
    assert not set(threading.enumerate()) - before
    assert heartbeat.silent() == []
