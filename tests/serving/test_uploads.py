"""Bodies within limits, that hold while they are read; in memory alone."""

import http.client
import socket
import tempfile
import threading

import pytest

from cervix_jax.serving.uploads import MAX_PHOTOGRAPHS, Uploads
from tests.serving.conftest import StubService, form, running


@pytest.fixture(scope="module")
def small():
    """A server that reads little, and gives clients a moment only."""
    with running(StubService(), Uploads(max_body=20_000, max_held=30_000, seconds=0.5)) as server:
        yield server


def opened(server, head: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    connection.sendall(f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode())
    return connection


def status_of(connection: socket.socket) -> int:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


def test_a_large_body_is_refused_before_a_byte_of_it_is_read(small) -> None:
    with opened(small, "Content-Length: 20001\r\nExpect: 100-continue") as connection:
        assert status_of(connection) == 413  # and not 100, which asks for the body


def test_a_body_that_does_not_say_how_large_it_is_is_refused_when_it_is_too_large(small, photograph) -> None:
    with opened(small, "Transfer-Encoding: chunked") as connection:
        for _ in range(3):
            connection.sendall(b"1b58\r\n" + bytes(7000) + b"\r\n")
        assert status_of(connection) == 413
    assert small.ask("/v1/predict", photograph)[0] == 200


def test_a_slow_client_is_sent_away_and_holds_nothing(small, photograph) -> None:
    with opened(small, "Content-Length: 1000") as connection:
        connection.sendall(bytes(10))
        assert status_of(connection) == 408
    assert small.uploads.held == 0
    assert small.ask("/v1/predict", photograph)[0] == 200


def test_all_bodies_share_a_budget_that_comes_back(photograph) -> None:
    began, may_go = threading.Event(), threading.Event()

    class Slow(StubService):
        def predict(self, files):
            began.set()
            assert may_go.wait(60)
            return super().predict(files)

    size = len(photograph)
    with running(Slow(), Uploads(max_body=2 * size, max_held=2 * size - 1)) as server:
        statuses = []
        first = threading.Thread(target=lambda: statuses.append(server.ask("/v1/predict", photograph)[0]))
        first.start()
        assert began.wait(60)
        status, headers, _ = server.ask("/v1/predict", photograph)
        assert (status, headers["retry-after"]) == (503, "5")
        may_go.set()
        first.join()
        assert statuses == [200]
        assert server.ask("/v1/predict", photograph)[0] == 200
        assert server.uploads.held == 0


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "image/jpeg"),
        (b"--x--\r\n", "multipart/form-data; boundary=x"),
        (b"no form", "multipart/form-data; boundary=x"),
        (b"no form", "multipart/form-data"),
        (
            b'--x\r\nContent-Disposition: form-data; name="p"\r\n\r\na field\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
        ),
        form(*[b"\xff"] * (MAX_PHOTOGRAPHS + 1)),
    ],
)
def test_what_is_no_photograph_nor_form_is_refused(stub, body, content_type) -> None:
    status, answer = stub.ask_json("/v1/predict", body, content_type=content_type)
    assert status == 400
    assert answer["error"]["code"] in ("empty", "form")


def test_a_large_form_touches_no_disk(stub, photograph, monkeypatch, tmp_path) -> None:
    """Starlette's own parser writes files of more than a megabyte to a temporary file."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "is not there"))
    body, content_type = form(photograph + bytes(3_000_000), photograph)
    status, answer = stub.ask_json("/v1/predict", body, content_type=content_type)
    assert (status, len(answer["photographs"])) == (200, 2)
