"""What is asked and answered, against the description of the interface; busy, broken and impatient clients."""

import io
import json
import socket
import struct
import threading
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

import cervix_jax.serving
from cervix_jax.serving.routes import page_files
from tests.images.test_hostile_photographs import mutated, originals
from tests.serving.conftest import BOX, DARK, OPEN, SURE, TORN, StubService, form, jpeg, running

FOLDER = Path(cervix_jax.serving.__file__).parent
OPENAPI = json.loads((FOLDER / "openapi.json").read_text())


def check(path: str, method: str, status: int, answer: object) -> None:
    """Raises unless an answer is as openapi.json describes it."""
    responses = OPENAPI["paths"][path][method]["responses"]
    described = responses.get(str(status), OPENAPI["components"]["responses"]["Refused"])
    schema = described["content"]["application/json"]["schema"] | {"components": OPENAPI["components"]}
    jsonschema.validate(answer, schema, cls=jsonschema.Draft202012Validator)


def test_answers_are_as_they_are_described(stub, photograph) -> None:
    body, content_type = form(photograph, b"none")
    for path, sent, headers, wanted in (
        ("/v1/predict", photograph, {}, 200),
        ("/v1/predict", body, {"content_type": content_type}, 200),
        ("/v1/predict", b"none", {}, 422),
        ("/v1/predict", b"", {}, 400),
        ("/v1/explain", b"none", {}, 422),
        ("/v1/about", None, {}, 200),
        ("/v1/about", None, {"host": "other.example"}, 421),
        ("/healthz", None, {}, 200),
    ):
        status, answer = stub.ask_json(path, sent, **headers)
        assert status == wanted
        check(path, "get" if sent is None else "post", status, answer)
    with pytest.raises(jsonschema.ValidationError):
        check("/v1/predict", "post", 200, {"photographs": [{"type": "Type_2"}], "note": ""})


def test_every_path_is_described_and_every_described_path_is_there(stub) -> None:
    for path, methods in OPENAPI["paths"].items():
        for method in methods:
            assert stub.ask(path, b"x" if method == "post" else None)[0] in (200, 422)
            assert stub.ask(path, None if method == "post" else b"x")[0] == 405
    assert stub.ask("/nothing")[0] == 404
    counted = stub.ask("/metrics")[2].decode()
    assert 'route="other",status="404"' in counted


def test_each_photograph_has_its_answer_in_order(stub) -> None:
    said = {255: SURE, 128: TORN, 0: DARK}
    with running(StubService(lambda pixel: said[min(said, key=lambda level: abs(level - pixel[0]))])) as server:
        pictures = [jpeg(Image.new("RGB", (40, 30), (level,) * 3)) for level in said]
        body, content_type = form(pictures[0], b"broken", *pictures[1:])
        answers = server.ask_json("/v1/predict", body, content_type=content_type)[1]["photographs"]
        assert [answer.get("decision") for answer in answers] == ["Type_2", None, "refer", "refer"]
        assert answers[1] == {"error": {"code": "unreadable", "message": "not a picture"}}
        assert answers[3]["retake"] == "too dark | blurred"
        counted = server.ask("/metrics")[2].decode()
    for outcome in ("type", "unreadable", "refer", "retake"):
        assert f'outcome="{outcome}"}} 1' in counted


def test_an_explanation_is_a_picture_or_nothing(stub, photograph) -> None:
    status, headers, content = stub.ask("/v1/explain?method=grad_cam&type=Type_1", photograph)
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (240, 320)
    assert stub.ask("/v1/explain?method=occlusion", photograph)[::2] == (204, b"")
    several, content_type = form(photograph, photograph)
    for query, body, headers in (
        ("?method=lime", photograph, {}),
        ("?type=Type_9", photograph, {}),
        ("", several, {"content_type": content_type}),
    ):
        assert stub.ask("/v1/explain" + query, body, **headers)[0] == 400


def test_a_full_queue_says_when_to_come_back_and_recovers(photograph) -> None:
    began, may_go = threading.Event(), threading.Event()

    class Slow(StubService):
        def predict(self, files):
            began.set()
            assert may_go.wait(60)
            return super().predict(files)

    with running(Slow(), max_waiting=1) as server:
        clients = [threading.Thread(target=server.ask, args=("/v1/predict", photograph)) for _ in range(2)]
        clients[0].start()
        assert began.wait(60)
        clients[1].start()
        while not server.model.waiting:  # the second is on its way
            server.ask("/healthz")
        status, headers, content = server.ask("/v1/predict", photograph)
        assert (status, json.loads(content)["error"]["code"]) == (503, "busy")
        assert int(headers["retry-after"]) >= 1
        assert server.ask("/healthz")[0] == 200
        may_go.set()
        for client in clients:
            client.join()
        assert server.ask("/v1/predict", photograph)[0] == 200


def test_a_client_that_goes_away_is_not_computed_for(photograph) -> None:
    began, may_go, computed = threading.Event(), threading.Event(), []

    class Slow(StubService):
        def predict(self, files):
            began.set()
            assert may_go.wait(60)
            computed.append(len(files))
            return super().predict(files)

    with running(Slow()) as server:
        first = threading.Thread(target=server.ask, args=("/v1/predict", photograph))
        first.start()
        assert began.wait(60)
        connection = socket.create_connection(("127.0.0.1", server.port))
        head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(photograph)}\r\n\r\n"
        connection.sendall(head.encode() + photograph)
        while not server.model.waiting:
            server.ask("/healthz")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()  # with a reset, as when a phone loses its network
        while 'route="/v1/predict",status="499"} 1' not in server.ask("/metrics")[2].decode():
            pass
        may_go.set()
        first.join()
        assert server.ask("/v1/predict", photograph)[0] == 200
        assert computed == [1, 1]
        assert server.uploads.held == 0


def test_hostile_files_are_refused_and_the_next_is_answered(stub, photograph) -> None:
    rng, refused = np.random.default_rng(1), 0
    for raw in originals():
        status, answer = stub.ask_json("/v1/predict", mutated(raw, rng))
        check("/v1/predict", "post", status, answer)
        refused += status == 422
        assert stub.ask("/v1/predict", photograph)[0] == 200
    assert refused > 5


def test_where_a_photograph_was_taken_stays_in_it(stub) -> None:
    exif = Image.Exif()
    exif[0x010F] = "SECRET MAKER"
    exif.get_ifd(0x8825)[29] = "SECRET DATE"
    raw = jpeg(Image.new("RGB", (60, 40)), exif=exif)
    assert b"SECRET" in raw
    for path in ("/v1/predict", "/v1/explain"):
        assert b"SECRET" not in stub.ask(path, raw)[2]


def test_the_page_is_in_the_package_and_names_nothing_outside_of_it(stub) -> None:
    files = page_files()
    for path, (content, media_type) in files.items():
        status, headers, body = stub.ask(path)
        assert (status, body) == (200, content)
        assert headers["content-type"].split(";")[0] == media_type
        addresses = content.replace(b"http://www.w3.org/2000/svg", b"")
        assert b"http://" not in addresses
        assert b"https://" not in addresses
        assert b"style=" not in content
    assert files["/app.js"][1] == "text/javascript"


def test_words_are_the_same_in_every_language_and_all_are_used() -> None:
    table = json.loads((FOLDER / "page/words.json").read_text())
    assert set(table) == {"en", "es", "fr", "sw"}
    keys = set(table["en"])
    for words in table.values():
        assert set(words) == keys
        assert all(words.values())
        for key, text in words.items():
            names = {part.partition("}")[0] for part in text.split("{")[1:]}
            assert names == {part.partition("}")[0] for part in table["en"][key].split("{")[1:]}
    code = "".join(content.decode() for path, (content, _) in page_files().items() if path != "/words.json")
    composed = ("type_", "retake_", "method_", "error_")
    assert not [
        key for key in keys if f'"{key}"' not in code and not key.startswith(composed) and key != "this_language"
    ]


def test_every_reason_to_take_a_photograph_again_has_words() -> None:
    from cervix_jax.datasets.quality import REASONS
    from cervix_jax.explainers.methods import METHODS

    keys = set(json.loads((FOLDER / "page/words.json").read_text())["en"])
    assert {f"retake_{reason.replace(' ', '_')}" for reason in REASONS.values()} <= keys
    assert {f"method_{method}" for method in METHODS} <= keys


def test_what_the_tests_say_is_what_a_model_can_say() -> None:
    for prediction in (SURE, TORN, OPEN, DARK):
        assert sum(prediction.probabilities.values()) == pytest.approx(1)
        assert prediction.type in prediction.set
    assert all(0 <= corner <= 1 for corner in BOX.box)
