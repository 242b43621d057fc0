"""Where it listens, what it refuses to, and connections that end in time."""

import socket
import struct

import pytest

from cervix_jax.serving import server
from tests.serving.conftest import StubService, running


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_this_machine_alone_needs_no_token(address) -> None:
    server.check_token(address, None)
    server.check_token(address, "sixteen letters!")


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.7", "clinic.local"])
def test_others_need_a_token_that_cannot_be_guessed(address) -> None:
    with pytest.raises(server.AddressError, match=r"other machines can reach .* --token=\S{16}"):
        server.check_token(address, None)
    for weak in ("", "fifteen letters", "é" * 16, "sixteen\nletters!"):
        with pytest.raises(server.AddressError, match="16 ASCII characters"):
            server.check_token(address, weak)
    server.check_token(address, "sixteen letters!")


def test_a_port_in_use_and_an_address_of_elsewhere_are_named() -> None:
    with server.listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert server.url(listener, None) == f"http://127.0.0.1:{port}/"
        assert server.url(listener, "abc") == f"http://127.0.0.1:{port}/#abc"
        with pytest.raises(server.AddressError, match=f"cannot listen on 127.0.0.1 port {port}: .*in use"):
            server.listen("127.0.0.1", port)
    with pytest.raises(server.AddressError, match=r"cannot listen on 192\.0\.2\.1 port 80"):
        server.listen("192.0.2.1", 80)  # of documentation (RFC 5737)
    with pytest.raises(server.AddressError, match="port 70000"):
        server.listen("127.0.0.1", 70000)


@pytest.fixture
def impatient(monkeypatch):
    """A server that waits for the head of a request for a moment only."""
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.3)
    with running(StubService()) as running_server:
        yield running_server


def is_cut(connection: socket.socket) -> bool:
    """Whether the other side ends it; an answer that comes before is read over."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize("sent", [b"", b"POST /v1/pre", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /heal"])
def test_a_head_that_does_not_come_ends_the_connection(impatient, sent) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=60) as connection:
        connection.sendall(sent)
        assert is_cut(connection)


def test_an_answer_that_is_not_taken_ends_the_connection(monkeypatch, photograph) -> None:
    class Large(StubService):
        def explain(self, raw, method, type_name):
            return bytes(30_000_000)  # more than the buffers on the way

    monkeypatch.setattr(server, "HEADER_SECONDS", 0.3)
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.6)
    with (
        running(Large()) as running_server,
        socket.create_connection(("127.0.0.1", running_server.port), timeout=60) as connection,
    ):
        head = f"POST /v1/explain HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(photograph)}\r\n\r\n"
        connection.sendall(head.encode() + photograph)
        while True:  # the state of TCP, of which 1 is open; nothing is read
            state = struct.unpack_from("B", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104))[0]
            if state != 1:
                break
        assert running_server.ask("/healthz")[0] == 200


def test_bytes_that_are_no_http_are_refused(stub) -> None:
    for sent in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n", b"GET /" + b"a" * 100_000):
        with socket.create_connection(("127.0.0.1", stub.port), timeout=60) as connection:
            connection.sendall(sent + b"\r\n\r\n")
            assert connection.recv(12) in (b"HTTP/1.1 400", b"HTTP/1.1 431")
    assert stub.ask("/healthz")[0] == 200
