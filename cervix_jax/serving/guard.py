"""What a request has to pass before anything of it is read: where it was sent to, from what page, and by whom.

A pure ASGI layer around the application. It also sets the headers of every answer, counts requests, and is the last
place that an exception reaches: of a bug it logs where, never with which data.
"""

import hmac
import ipaddress
import time
import traceback
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cervix_jax.progress import log
from cervix_jax.serving.counters import Counters
from cervix_jax.serving.responses import HEADERS, RequestError, error_response


class Guard:
    """Refuses what does not come from this server's own page, or from a program with the token."""

    def __init__(
        self,
        app: ASGIApp,
        counters: Counters,
        *,
        hostnames: Collection[str] = (),
        token: str | None = None,
        public: Collection[str] = (),
        routes: Collection[str] = (),
    ):
        """Wraps an application.

        Args:
          app: the application.
          counters: told of each request.
          hostnames: names by which the server may be addressed, besides localhost and any numeric address.
          token: that a request has to bear; None for none.
          public: paths that need no token: the page itself, which holds no secrets.
          routes: all paths there are; others are counted as one.
        """
        self._app, self._counters, self._token = app, counters, token
        self._hostnames = {"localhost", *(name.lower() for name in hostnames)}
        self._public, self._routes = frozenset(public), frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began, status = time.monotonic(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            try:
                self._check(scope, Headers(scope=scope))
            except RequestError as error:
                await error_response(error)(scope, receive, send_with_headers)
            else:
                await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = 499  # nginx's number for it
        except Exception as error:  # a bug; its message may hold data
            where = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-3:]]
            log(f"error: {type(error).__name__} at {' '.join(where)}")
        finally:
            route = scope["path"] if scope["path"] in self._routes else "other"
            self._counters.count_request(route, status, time.monotonic() - began)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise RequestError(421, "host", "this server does not go by that name; --hostname=NAME adds one")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        is_visit = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"  # a link to the page
        if (origin is not None and origin.partition("://")[2].lower() != host.lower()) or (
            site not in ("same-origin", "none") and not is_visit
        ):
            raise RequestError(403, "cross_site", "another page may not use this server")
        if self._token is not None and scope["path"] not in self._public:
            given = headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
                raise RequestError(401, "token", "the token is missing or wrong", {"www-authenticate": "Bearer"})

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header is one that DNS rebinding cannot send: that sends the name of the attacker's page."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._hostnames:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
