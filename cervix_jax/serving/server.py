"""Starting and stopping: socket, compilation before the first request, uvicorn, and connections that end in time."""

import asyncio
import ipaddress
import secrets
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from cervix_jax.errors import UserError
from cervix_jax.inference.decisions import DecisionRule
from cervix_jax.inference.predictor import Predictor
from cervix_jax.progress import log
from cervix_jax.serving.batching import ModelThread
from cervix_jax.serving.counters import Counters
from cervix_jax.serving.routes import make_app
from cervix_jax.serving.service import Service
from cervix_jax.serving.uploads import UPLOAD_SECONDS, Uploads

MAX_WAITING = 128  # photographs and explanations
MAX_CONNECTIONS = 512
MIN_TOKEN = 16  # characters
HEADER_SECONDS = 15.0  # from connecting, or from the last answer, to the end of the next request's head
REQUEST_SECONDS = UPLOAD_SECONDS + 60.0  # from there to the end of the answer
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time


class AddressError(UserError):
    """The server cannot, or should not, listen there."""


def serve(
    predictor: Predictor,
    rule: DecisionRule,
    *,
    address: str,
    port: int,
    token: str | None = None,
    hostnames: Sequence[str] = (),
    batch_size: int = 8,
    site: str | None = None,
) -> dict[str, Any]:
    """Serves the page until SIGTERM or Ctrl-C.

    Args:
      predictor: one run or many, calibrated.
      rule: with a coverage.
      address: numeric, or 'localhost'.
      port: 0 for any that is free.
      token: that requests for predictions have to bear.
      hostnames: names that the machine goes by, beside its addresses.
      batch_size: most photographs a step.
      site: whose calibration the predictor has, see `Service`.

    Returns:
      `photographs`: how many were answered, and `seconds`: for how long the page was open.

    Raises:
      AddressError: the address can be reached by other machines and there is no token, or it is not free.
      ServiceError: the predictor cannot be served.
    """
    service, counters = Service(predictor, rule, batch_size, site), Counters()
    check_token(address, token)
    with listen(address, port) as listener:
        _dump_no_core()
        began = time.monotonic()
        log(f"compiling for batches of up to {batch_size} photographs; the next start is quicker")
        service.warm_up()
        model = ModelThread(
            service.predict, batch_size=batch_size, max_waiting=MAX_WAITING, on_batch=counters.count_batch
        )
        app = make_app(service, model, counters, Uploads(), hostnames=hostnames, token=token)
        opened = time.monotonic()
        log(f"ready after {opened - began:.1f} s; open {url(listener, token)} (Ctrl-C ends it)")
        try:
            make_server(app).run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn has finished what was running, and raises the signal again
            pass
        finally:
            model.close()
    return {"photographs": counters.photographs, "seconds": round(time.monotonic() - opened, 1)}


def check_token(address: str, token: str | None) -> None:
    """Raises AddressError if others can reach an address and there is no token, or one that can be guessed."""
    if token is not None and (len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable()):
        raise AddressError(f"--token has to be {MIN_TOKEN} ASCII characters or more, or it could be guessed")
    if token is None and not _is_loopback(address):
        raise AddressError(
            f"other machines can reach {address}, and whoever they belong to could use the model; give them a secret: "
            f"--token={secrets.token_urlsafe(MIN_TOKEN)}"
        )


def listen(address: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
      AddressError: the address is not of this machine, or the port is in use.
    """
    if port > 65535:
        raise AddressError(f"cannot listen on {address} port {port}: ports end at 65535")
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family, backlog=MAX_CONNECTIONS)
    except OSError as error:
        raise AddressError(f"cannot listen on {address} port {port}: {error.strerror or error}") from error
    # Connections inherit it. asyncio sets it only where the socket names its protocol, and an answer of two parts would
    # wait 40 ms for the acknowledgement of the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url(listener: socket.socket, token: str | None) -> str:
    """Where the page is; the token after '#', which browsers do not send and servers do not log."""
    address, port = listener.getsockname()[:2]
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{port}/" + (f"#{token}" if token else "")


def make_server(app: ASGIApp) -> uvicorn.Server:
    """uvicorn, silent, with connections that end in time; `.run(sockets=[...])`."""
    config = uvicorn.Config(
        app,
        loop="asyncio",  # uvloop is there by chance, as what checkpoints are written with needs it
        http=TimedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=int(HEADER_SECONDS),
        timeout_graceful_shutdown=10,
    )
    return uvicorn.Server(config)


class TimedProtocol(H11Protocol):
    """A connection that is cut when a request does not come, or its answer is not taken, in time.

    uvicorn limits how long an idle connection is kept, but not how slowly a client sends or reads.
    """

    _deadline: asyncio.TimerHandle | None = None
    _is_answering = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._allow(HEADER_SECONDS)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._is_answering and self._has_request:
            self._is_answering = True
            self._allow(REQUEST_SECONDS)

    def on_response_complete(self) -> None:
        self._is_answering = False
        self._allow(HEADER_SECONDS)
        super().on_response_complete()  # which may begin with the next request

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._deadline is not None:
            self._deadline.cancel()

    @property
    def _has_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _allow(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        if self._has_request and not self._is_answering:  # it came together with the one before
            self._is_answering = True
            self._allow(REQUEST_SECONDS)
        else:  # without lingering, or the system would go on offering what is not taken
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()


def _is_loopback(address: str) -> bool:
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _dump_no_core() -> None:
    """Has a crash leave no image of the memory, in which photographs are."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
