"""One thread for the model: what is batched, what waits, and what is refused."""

import threading
import weakref

import pytest

from cervix_jax.serving.batching import BusyError, ModelThread


class Recorder:
    """A model that keeps the batches it was given, and works only when it is let."""

    def __init__(self):
        self.batches, self.threads = [], set()
        self.began, self.may_go = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, files):
        self.began.release()
        assert self.may_go.acquire(timeout=60)
        self.batches.append(list(files))
        self.threads.add(threading.get_ident())
        if b"bad" in files:
            raise ValueError("a bad batch")
        return [file.upper() for file in files]


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def model(recorder):
    made = ModelThread(recorder, batch_size=3, max_waiting=5, wait_seconds=0.0)
    yield made
    recorder.may_go.release(100)
    made.close()


def hold(model, recorder, file=b"first"):
    """Has the thread work on a file until it is let."""
    (future,) = model.submit([file])
    assert recorder.began.acquire(timeout=60)
    return future


def test_what_waits_goes_together_and_answers_come_back_in_order(model, recorder) -> None:
    first = hold(model, recorder)
    futures = [*model.submit([b"a", b"b"]), *model.submit([b"c"]), *model.submit([b"d"])]
    recorder.may_go.release(100)
    assert first.result(60) == b"FIRST"
    assert [future.result(60) for future in futures] == [b"A", b"B", b"C", b"D"]
    assert recorder.batches == [[b"first"], [b"a", b"b", b"c"], [b"d"]]


def test_a_function_waits_for_its_turn_and_runs_in_the_same_thread(model, recorder) -> None:
    hold(model, recorder)
    before = model.submit([b"a"])
    called = model.call(lambda: (len(recorder.batches), threading.get_ident()))
    after = model.submit([b"b"])
    recorder.may_go.release(100)
    assert called.result(60) == (2, *recorder.threads)
    assert (before[0].result(60), after[0].result(60)) == (b"A", b"B")
    assert recorder.batches == [[b"first"], [b"a"], [b"b"]]  # not across the function


def test_beyond_the_bound_all_of_a_request_is_refused_and_nothing_of_it_is_kept(model, recorder) -> None:
    hold(model, recorder)
    model.submit([b"x"] * 4)
    with pytest.raises(BusyError) as refusal:
        model.submit([b"y"] * 2)
    assert refusal.value.retry_after >= 1
    assert model.waiting == 4
    (last,) = model.submit([b"z"])
    recorder.may_go.release(100)
    assert last.result(60) == b"Z"


def test_what_is_cancelled_is_not_computed(model, recorder) -> None:
    hold(model, recorder)
    gone, kept = model.submit([b"gone", b"kept"])
    assert gone.cancel()
    recorder.may_go.release(100)
    assert kept.result(60) == b"KEPT"
    assert recorder.batches == [[b"first"], [b"kept"]]


def test_what_is_cancelled_leaves_its_place_and_its_bytes_at_once(model, recorder) -> None:
    def work():
        """What can be watched, as bytes cannot."""

    hold(model, recorder)
    futures, watched = [*model.submit([b"x"] * 4), model.call(work)], weakref.ref(work)
    del work
    for future in futures:
        assert future.cancel()
    assert model.waiting == 0
    assert watched() is None
    (last,) = model.submit([b"z"])
    recorder.may_go.release(100)
    assert last.result(60) == b"Z"


def test_an_error_is_that_of_its_batch_alone(model, recorder) -> None:
    recorder.may_go.release(100)
    (bad,) = model.submit([b"bad"])
    with pytest.raises(ValueError, match="a bad batch"):
        bad.result(60)
    (good,) = model.submit([b"good"])
    assert good.result(60) == b"GOOD"


def test_a_photograph_waits_a_little_for_company(recorder) -> None:
    recorder.may_go.release(100)
    model = ModelThread(recorder, batch_size=2, max_waiting=5, wait_seconds=60.0)
    futures = [*model.submit([b"a"]), *model.submit([b"b"])]
    assert [future.result(30) for future in futures] == [b"A", b"B"]  # a full batch waits no longer
    assert recorder.batches == [[b"a", b"b"]]
    model.close()


def test_closing_cancels_what_waits(recorder) -> None:
    model = ModelThread(recorder, batch_size=1, max_waiting=5, wait_seconds=0.0)
    running = hold(model, recorder)
    (waiting,) = model.submit([b"a"])
    recorder.may_go.release(100)
    model.close()
    assert running.result(0) == b"FIRST"
    assert waiting.cancelled() or waiting.result(0) == b"A"
    with pytest.raises(BusyError):
        model.submit([b"b"])
