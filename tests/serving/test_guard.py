"""Who may ask: names of the host, pages of others, tokens; and what every answer carries."""

import pytest

from tests.serving.conftest import StubService, running

TOKEN = "a-token-of-enough-length"


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "192.168.1.7:8000", "LOCALHOST"])
def test_numbers_and_localhost_are_ours(stub, host) -> None:
    assert stub.ask("/healthz", host=host)[0] == 200


@pytest.mark.parametrize(
    "host", ["attacker.example", "localhost.attacker.example:8000", "", "[::1", "127.0.0.1.nip.io"]
)
def test_names_of_others_are_refused(stub, host) -> None:
    """DNS rebinding: a page of the attacker's, whose name now leads here, sends that name."""
    status, answer = stub.ask_json("/healthz", host=host)
    assert (status, answer["error"]["code"]) == (421, "host")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://attacker.example"},
        {"origin": "null"},
        {"origin": "http://[::1"},
        {"origin": "http://127.0.0.1:1"},  # another port is another site
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
def test_pages_of_others_are_refused(stub, photograph, headers) -> None:
    for path, body in (("/v1/predict", photograph), ("/v1/about", None), ("/", None)):
        status, answer = stub.ask_json(path, body, **headers)
        assert (status, answer["error"]["code"]) == (403, "cross_site")


def test_its_own_page_a_link_to_it_and_programs_are_served(stub, photograph) -> None:
    own = {"origin": stub.url.rstrip("/"), "sec_fetch_site": "same-origin"}
    assert stub.ask("/v1/predict", photograph, **own)[0] == 200
    assert stub.ask("/v1/predict", photograph)[0] == 200
    assert stub.ask("/", sec_fetch_site="cross-site", sec_fetch_mode="navigate")[0] == 200
    assert stub.ask("/v1/predict", photograph, sec_fetch_site="cross-site", sec_fetch_mode="navigate")[0] == 403


def test_every_answer_keeps_browsers_from_leaking(stub, photograph) -> None:
    for path, body in (("/", None), ("/v1/predict", photograph), ("/v1/explain", photograph), ("/nothing", None)):
        headers = stub.ask(path, body)[1]
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert not {"set-cookie", "server", "access-control-allow-origin"} & set(headers)


def test_a_token_guards_all_but_the_page_and_its_health() -> None:
    with running(StubService(), token=TOKEN, hostnames=["Clinic.Local"]) as server:
        for path in ("/v1/about", "/metrics", "/nothing"):
            for given in (
                {},
                {"authorization": "Bearer wrong"},
                {"authorization": TOKEN},
                {"authorization": "Bearer é"},
            ):
                status, headers, _ = server.ask(path, **given)
                assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert server.ask("/v1/about", authorization=f"Bearer {TOKEN}")[0] == 200
        assert {server.ask(path)[0] for path in ("/", "/app.js", "/healthz", "/openapi.json")} == {200}
        assert server.ask("/healthz", host="clinic.local:8000")[0] == 200
        assert server.ask("/healthz", host="other.local:8000")[0] == 421


def test_a_bug_says_where_it_is_and_nothing_of_the_data(photograph, caplog, capsys) -> None:
    class Broken(StubService):
        def predict(self, files):
            raise ZeroDivisionError(f"of {files[0]!r}")

    with running(Broken()) as server:
        status, answer = server.ask_json("/v1/predict", photograph)
        assert (status, answer["error"]["code"]) == (500, "internal")
        assert 'route="/v1/predict",status="500"} 1' in server.ask("/metrics")[2].decode()
    said = capsys.readouterr().err + caplog.text
    assert "ZeroDivisionError at " in said
    assert "conftest.py" in said or "test_guard.py" in said
    assert repr(photograph)[5:20] not in said
