"""Published weights: fetched once from a local server, identified by their digest; the way out if that fails."""

import functools
import hashlib
import http.server
import io
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pooch
import pytest

from cervix_jax.errors import UserError
from cervix_jax.models.backbones.spec import CAFFE, PretrainedWeights
from cervix_jax.models.weights.published import fetch
from cervix_jax.models.weights.strict_loading import WeightsError

CONTENT = b"as published"


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder that holds weights.h5.

    Attributes:
      weights: the record of that file.
    """

    weights: PretrainedWeights


@pytest.fixture
def server(tmp_path: Path, monkeypatch) -> Iterator[Server]:
    """Serves tmp_path/served; the cache is tmp_path/cache."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "weights.h5").write_bytes(CONTENT)
    handler = functools.partial(Handler, directory=tmp_path / "served")
    with Server(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{running.server_port}/weights.h5"
        digest = hashlib.sha256(CONTENT).hexdigest()
        running.weights = PretrainedWeights(url, digest, "cached.h5", len(CONTENT), "keras_h5", CAFFE)
        monkeypatch.setenv("CERVIX_JAX_CACHE", str(tmp_path / "cache"))
        yield running
        running.shutdown()
        thread.join()


def stop(server: Server) -> None:
    server.shutdown()
    server.server_close()


def refusal(server: Server, tmp_path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        fetch("resnet50", server.weights)
    assert isinstance(caught.value, UserError)
    message = str(caught.value)
    assert server.weights.url in message
    assert str(tmp_path / "cache" / "cached.h5") in message
    assert server.weights.sha256 in message
    assert "--config.model.backbone.weights=PATH" in message
    return message


def test_the_file_is_downloaded_once_and_then_needs_no_server(server, tmp_path, capfd, monkeypatch):
    output = io.StringIO()
    monkeypatch.setattr(pooch.get_logger(), "level", logging.NOTSET)
    monkeypatch.setattr(pooch.get_logger(), "handlers", [logging.StreamHandler(output)])
    path = fetch("resnet50", server.weights)
    assert path == tmp_path / "cache" / "cached.h5"
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["cached.h5"]
    stop(server)
    assert fetch("resnet50", server.weights) == path
    assert output.getvalue() == ""
    assert capfd.readouterr() == ("", "")


def test_a_file_put_there_by_hand_is_taken_if_it_is_the_right_one(server, tmp_path):
    stop(server)
    (tmp_path / "cache").mkdir()
    path = tmp_path / "cache" / "cached.h5"
    path.write_bytes(CONTENT)
    assert fetch("resnet50", server.weights) == path

    path.write_bytes(b"another")
    message = refusal(server, tmp_path)
    assert f"{path} has SHA-256 {hashlib.sha256(b'another').hexdigest()}, not " in message
    assert path.read_bytes() == b"another"


def test_what_is_served_with_another_digest_is_refused_and_not_kept(server, tmp_path):
    (tmp_path / "served" / "weights.h5").write_bytes(b"tampered with")
    message = refusal(server, tmp_path)
    assert hashlib.sha256(b"tampered with").hexdigest() in message
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_answer_that_breaks_off_is_refused_and_not_kept(server, tmp_path, monkeypatch):
    def broken_off(self: Handler) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(CONTENT)

    monkeypatch.setattr(Handler, "do_GET", broken_off)
    refusal(server, tmp_path)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_missing_page_and_a_server_that_is_down_are_reported_with_the_way_out(server, tmp_path):
    (tmp_path / "served" / "weights.h5").unlink()
    assert "404" in refusal(server, tmp_path)
    stop(server)
    assert "could not be fetched" in refusal(server, tmp_path)
    assert not (tmp_path / "cache" / "cached.h5").exists()


def test_a_cache_that_cannot_be_created_is_reported(server, tmp_path):
    (tmp_path / "cache").write_bytes(b"a file in its place")
    refusal(server, tmp_path)
