"""Event files, read back as TensorBoard does."""

import importlib.util
import struct

import pytest

from cervix_jax.training.tensorboard import TensorBoard

if importlib.util.find_spec("tensorboardX") is None:
    pytest.skip("tensorboardX is not installed", allow_module_level=True)

from tensorboardX.proto.event_pb2 import Event


def test_scalars_of_an_epoch_are_written_at_its_step(tmp_path) -> None:
    board = TensorBoard(tmp_path)
    board.write({"epoch": 1, "step": 7, "train_loss": 0.5, "images_per_second": None})
    board.close()
    (path,) = (tmp_path / "tensorboard").iterdir()
    content, events = path.read_bytes(), []
    while content:  # length, its checksum, the event and its checksum
        (length,) = struct.unpack("<Q", content[:8])
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    scalars = {(v.tag, event.step): v.simple_value for event in events for v in event.summary.value}
    assert scalars == {("epoch", 7): 1, ("step", 7): 7, ("train_loss", 7): 0.5}


def test_without_a_folder_nothing_is_written() -> None:
    board = TensorBoard(None)
    board.write({"step": 1, "loss": 2.0})
    board.close()
