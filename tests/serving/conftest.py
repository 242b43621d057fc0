"""A server on a free port of this machine, in a thread, whose model is a function that a test chooses."""

import contextlib
import dataclasses
import http.client
import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from PIL import Image

from cervix_jax.explainers.methods import METHODS
from cervix_jax.images import synthetic
from cervix_jax.images.boxes import LocatedBox
from cervix_jax.images.decode import read_photograph
from cervix_jax.images.files import UnreadableError
from cervix_jax.inference.decisions import Prediction
from cervix_jax.serving import server
from cervix_jax.serving.batching import ModelThread
from cervix_jax.serving.counters import Counters
from cervix_jax.serving.routes import make_app
from cervix_jax.serving.service import Service, prediction_json
from cervix_jax.serving.uploads import Uploads

ABOUT = {
    "model": "stub",
    "classes": ["Type_1", "Type_2", "Type_3"],
    "runs": 1,
    "temperature": 1.0,
    "reference": 60,
    "site": None,
    "methods": {name: method.title for name, method in METHODS.items()},
    "default_method": "grad_cam",
    "note": "Research software, not for clinical decisions.",
    "coverage": 0.9,
    "threshold": None,
}
SURE = Prediction("", {"Type_1": 0.02, "Type_2": 0.95, "Type_3": 0.03}, "Type_2", ("Type_2",), "Type_2", "", 0.4)
TORN = dataclasses.replace(
    SURE, probabilities={"Type_1": 0.45, "Type_2": 0.5, "Type_3": 0.05}, set=("Type_1", "Type_2"), decision="refer"
)
OPEN = dataclasses.replace(TORN, set=("Type_1", "Type_2", "Type_3"))
DARK = dataclasses.replace(TORN, retake="too dark | blurred", quality=0.001)
BOX = LocatedBox((0.2, 0.25, 0.8, 0.75), 0.9)


class StubService(Service):
    """Reads photographs, and says what a function of their upper left pixel says; explains by a grey picture."""

    def __init__(self, say: Callable[[tuple[int, ...]], Prediction] = lambda pixel: SURE):
        self._say = say

    def predict(self, files: Sequence[bytes]) -> list[dict[str, Any]]:
        return [self._answer(raw) for raw in files]

    def explain(self, raw: bytes, method: str, type_name: str | None) -> bytes | None:
        picture = read_photograph(raw)
        return None if method == "occlusion" else jpeg(Image.new("RGB", picture.size, (90, 60, 160)))

    def about(self) -> dict[str, Any]:
        return ABOUT

    def _answer(self, raw: bytes) -> dict[str, Any]:
        try:
            pixel = read_photograph(raw).getpixel((0, 0))
        except UnreadableError as error:
            return {"error": {"code": "unreadable", "message": str(error)}}
        return prediction_json(self._say(pixel))


@dataclasses.dataclass
class Running:
    """A server that runs."""

    port: int
    uploads: Uploads
    model: ModelThread

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer; headers are named with _ for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(connection):
            connection.request("GET" if body is None else "POST", path, body, sent)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()

    def ask_json(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        status, _, content = self.ask(path, body, **headers)
        return status, json.loads(content)


@contextlib.contextmanager
def running(
    service: Service, uploads: Uploads | None = None, *, max_waiting: int = 64, **options: Any
) -> Iterator[Running]:
    counters, uploads = Counters(), uploads or Uploads()
    model = ModelThread(service.predict, batch_size=4, max_waiting=max_waiting, on_batch=counters.count_batch)
    with server.listen("127.0.0.1", 0) as listener:
        machine = server.make_server(make_app(service, model, counters, uploads, **options))
        thread = threading.Thread(target=machine.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield Running(listener.getsockname()[1], uploads, model)
        finally:
            machine.should_exit = True
            model.close()
            thread.join()


@pytest.fixture(scope="session")
def stub() -> Iterator[Running]:
    """A server whose model is sure of type 2; tests only ask it."""
    with running(StubService()) as server:
        yield server


@pytest.fixture(scope="session")
def photograph() -> bytes:
    return jpeg(Image.fromarray(synthetic.draw(1, "test", 0).image))


def jpeg(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


def form(*files: bytes) -> tuple[bytes, str]:
    """Body and content type of a form with files."""
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="p"; filename="SECRET.jpg"\r\n\r\n' + file + b"\r\n"
        for file in files
    ]
    return b"".join(parts) + b"--x--\r\n", "multipart/form-data; boundary=x"
