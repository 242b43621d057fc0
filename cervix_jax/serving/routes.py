"""The application: the page and its files, predictions, explanations, health and counts."""

import asyncio
import mimetypes
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import Future
from functools import partial
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from cervix_jax.images.files import UnreadableError
from cervix_jax.inference.decisions import NOT_ASSESSED, REFER
from cervix_jax.serving.batching import BusyError, ModelThread
from cervix_jax.serving.counters import Counters
from cervix_jax.serving.guard import Guard
from cervix_jax.serving.responses import RequestError, busy, error_response
from cervix_jax.serving.service import NOTE, Answer, Service
from cervix_jax.serving.uploads import Uploads

PAGE = "index.html"


def make_app(
    service: Service,
    model: ModelThread,
    counters: Counters,
    uploads: Uploads,
    *,
    hostnames: Collection[str] = (),
    token: str | None = None,
) -> ASGIApp:
    """The application behind its guard.

    Args:
      service: answers, called from the thread of `model` alone.
      model: the thread, whose batches are `service.predict`.
      counters: what `/metrics` shows.
      uploads: reads bodies.
      hostnames: see `Guard`.
      token: see `Guard`.
    """
    page = page_files()
    about = service.about()
    methods, classes = about["methods"], about["classes"]

    async def predict(request: Request) -> Response:
        async with uploads.received(request) as files:
            answers = await _results(request, model.submit(files))
        for answer in answers:
            counters.count_photograph(_outcome(answer))
        status = 422 if all("error" in answer for answer in answers) else 200
        return JSONResponse({"photographs": answers, "note": NOTE}, status)

    async def explain(request: Request) -> Response:
        method = request.query_params.get("method", about["default_method"])
        type_name = request.query_params.get("type")
        if method not in methods:
            raise RequestError(400, "method", f"there is no such method; there are {', '.join(methods)}")
        if type_name is not None and type_name not in classes:
            raise RequestError(400, "type", f"there is no such type; there are {', '.join(classes)}")
        async with uploads.received(request) as files:
            if len(files) > 1:
                raise RequestError(400, "several", "one photograph is explained at a time")
            future = model.call(partial(service.explain, files[0], method, type_name))
            (picture,) = await _results(request, [future])
        return Response(status_code=204) if picture is None else Response(picture, media_type="image/jpeg")

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok", "waiting": model.waiting})

    async def metrics(request: Request) -> Response:
        return Response(counters.text(model.waiting), media_type="text/plain; version=0.0.4")

    async def describe(request: Request) -> Response:
        return JSONResponse(about)

    async def file(request: Request) -> Response:
        content, media_type = page[request.url.path]
        return Response(content, media_type=media_type)

    routes = [
        Route("/v1/predict", predict, methods=["POST"]),
        Route("/v1/explain", explain, methods=["POST"]),
        Route("/v1/about", describe),
        Route("/healthz", health),
        Route("/metrics", metrics),
        *(Route(path, file) for path in page),
    ]
    app = Starlette(routes=routes, exception_handlers=_HANDLERS)
    paths = [route.path for route in routes]
    return Guard(app, counters, hostnames=hostnames, token=token, public=[*page, "/healthz"], routes=paths)


def page_files() -> dict[str, tuple[bytes, str]]:
    """Content and media type of each file of the page by its path, from the package; '/' is the page."""
    folder = resources.files("cervix_jax.serving")
    files = {f"/{entry.name}": entry for entry in (folder / "page").iterdir() if entry.is_file()}
    files["/openapi.json"] = folder / "openapi.json"
    files["/"] = files.pop(f"/{PAGE}")
    types = {path: mimetypes.guess_type(entry.name)[0] or "application/octet-stream" for path, entry in files.items()}
    return {path: (entry.read_bytes(), types[path]) for path, entry in files.items()}


async def _results(request: Request, futures: Sequence[Future[Any]]) -> list[Any]:
    """Results of futures; cancels them if the client goes away."""
    results: asyncio.Future[Any] = asyncio.gather(*map(asyncio.wrap_future, futures))
    gone: asyncio.Future[Any] = asyncio.ensure_future(_disconnection(request))
    try:
        await asyncio.wait([results, gone], return_when=asyncio.FIRST_COMPLETED)
        if not results.done():
            raise ClientDisconnect
        return results.result()
    finally:
        gone.cancel()
        results.cancel()


async def _disconnection(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _outcome(answer: Answer) -> str:
    if "error" in answer:
        return "unreadable"
    if answer["retake"] not in ("", NOT_ASSESSED):
        return "retake"
    return "refer" if answer["decision"] == REFER else "type"


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, BusyError):
        return error_response(busy(error.retry_after))
    if isinstance(error, UnreadableError):
        return error_response(RequestError(422, "unreadable", str(error)))
    assert isinstance(error, RequestError)
    return error_response(error)


async def _no_such_page(request: Request, error: Exception) -> Response:
    return error_response(RequestError(404, "not_found", "there is nothing here; /openapi.json says what there is"))


async def _wrong_method(request: Request, error: Exception) -> Response:
    return error_response(RequestError(405, "method_not_allowed", "/openapi.json says how it is asked"))


async def _failed(request: Request, error: Exception) -> Response:
    """The answer to a bug, which Starlette raises again for the guard to log."""
    return error_response(RequestError(500, "internal", "something went wrong here; nothing was kept"))


_HANDLERS: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    RequestError: _refused,
    BusyError: _refused,
    UnreadableError: _refused,
    404: _no_such_page,
    405: _wrong_method,
    Exception: _failed,
}
