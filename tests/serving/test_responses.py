"""Errors as JSON of one shape."""

import json

from cervix_jax.serving.responses import RequestError, busy, error_response


def test_an_error_is_a_code_and_a_message() -> None:
    response = error_response(RequestError(413, "too_large", "at most 5 bytes", {"x-more": "yes"}))
    assert response.status_code == 413
    assert json.loads(response.body) == {"error": {"code": "too_large", "message": "at most 5 bytes"}}
    assert response.headers["x-more"] == "yes"


def test_a_busy_server_says_when_to_come_back() -> None:
    response = error_response(busy(7))
    assert (response.status_code, response.headers["retry-after"]) == (503, "7")
    assert "7 s" in json.loads(response.body)["error"]["message"]
