"""What every answer carries: headers that keep browsers from leaking, and errors as JSON of one shape."""

from starlette.responses import JSONResponse, Response

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "cache-control": "no-store",  # neither photographs nor what is said of them stay in a browser's cache
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
}


class RequestError(Exception):
    """A request is refused; what the client is told.

    Attributes:
      status: of HTTP.
      code: a word that programs, and the page's translations, go by.
      headers: of the response.
    """

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers or {}


def error_response(error: RequestError) -> Response:
    """{"error": {"code", "message"}}."""
    body = {"error": {"code": error.code, "message": str(error)}}
    return JSONResponse(body, error.status, error.headers)


def busy(retry_after: int) -> RequestError:
    """503: too much is waiting."""
    return RequestError(
        503, "busy", f"too much is waiting; try again in {retry_after} s", {"retry-after": str(retry_after)}
    )
