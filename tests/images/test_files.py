"""Files of a folder: their order, odd names, links, special files; and that such folders are prepared and predicted."""

import csv
import json
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cervix_jax.csv_files import from_cell
from cervix_jax.datasets.builder import Cervix
from cervix_jax.images.decode import read_photograph
from cervix_jax.images.files import UnreadableError, find_photographs, read_bytes
from cervix_jax.inference.prediction_files import predict_folder
from cervix_jax.labels import CLASS_NAMES
from tests.images.encodings import encoded, gradient
from tests.inference.stub_predictor import StubPredictor

NAMES = [
    "a b.jpg",
    "größe 日本.jpg",
    "two\nlines.jpg",
    "carriage\rreturn.jpg",
    "-rf.jpg",
    "--help.png",
    'quo"te,s.jpg',
    "=1+1.jpg",
]


@pytest.fixture
def odd_folder(tmp_path):
    """A folder of odd names, links and special files; and what is outside."""
    folder, outside = tmp_path / "raw", tmp_path / "outside"
    for part in (folder / "more", outside):
        part.mkdir(parents=True)
    photograph = encoded(gradient(), "JPEG")
    for path in (*(folder / name for name in NAMES), folder / "more" / "1.jpg", outside / "secret.jpg"):
        path.write_bytes(photograph)
    (folder / "inside.jpg").symlink_to("more/1.jpg")
    (folder / "secret.jpg").symlink_to(outside / "secret.jpg")
    (folder / "up.jpg").symlink_to("../outside/secret.jpg")
    (folder / "elsewhere").symlink_to(outside)
    (folder / "nothing.jpg").symlink_to("none.jpg")
    (folder / "self.jpg").symlink_to("self.jpg")
    (folder / "more" / "loop").symlink_to("..")
    (folder / "again").symlink_to("more")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "device.jpg").symlink_to("/dev/zero")
    (folder / "folder.jpg").mkdir()
    with (folder / "endless.png").open("wb") as file:
        file.truncate(1 << 40)  # a hole
    return folder


REFUSED = {
    "secret.jpg": "a link that leaves the folder",
    "up.jpg": "a link that leaves the folder",
    "elsewhere": "a link that leaves the folder",
    "device.jpg": "a link that leaves the folder",
    "nothing.jpg": "No such file or directory",
    "self.jpg": "Too many levels of symbolic links",
    "pipe.jpg": "not an ordinary file",
    "endless.png": "1,099,511,627,776 bytes; at most 400,000,000 are read",
}


def reason_of(path, inside):
    try:
        read_bytes(path, inside=inside)
    except UnreadableError as error:
        return str(error)


def test_every_file_of_an_odd_folder_is_read_or_refused_with_its_reason(odd_folder):
    paths = find_photographs(odd_folder)
    reasons = {path.relative_to(odd_folder).as_posix(): reason_of(path, odd_folder) for path in paths}
    assert reasons == REFUSED | dict.fromkeys([*NAMES, "more/1.jpg", "inside.jpg"])
    assert len(paths) == len(reasons)


def test_a_folder_that_is_a_link_itself_is_searched(odd_folder, tmp_path):
    (tmp_path / "link").symlink_to(odd_folder)
    assert len(find_photographs(tmp_path / "link")) == len(find_photographs(odd_folder))
    assert reason_of(tmp_path / "link" / NAMES[0], tmp_path / "link") is None


def test_linked_folders_are_searched_once_and_only_inside(tmp_path):
    for name in ("raw/part", "raw/shared", "outside"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.jpg").write_bytes(b"x")
    (tmp_path / "raw/part/a").symlink_to("../shared")
    (tmp_path / "raw/part/b").symlink_to("../shared")
    (tmp_path / "raw/shared/back").symlink_to("../part")
    part, raw = tmp_path / "raw/part", tmp_path / "raw"
    assert [p.relative_to(part).as_posix() for p in find_photographs(part, inside=raw)] == ["1.jpg", "a/1.jpg"]
    # By itself the part may not be left; what is refused is named.
    assert [p.relative_to(part).as_posix() for p in find_photographs(part)] == ["1.jpg", "a", "b"]


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null"])
def test_devices_are_not_read(name):
    with pytest.raises(UnreadableError, match="not an ordinary file"):
        read_photograph(name)


def test_odd_folders_are_prepared_with_what_is_dropped_named(odd_folder, tmp_path):
    manual_dir = tmp_path / "manual"
    for name in CLASS_NAMES:
        (manual_dir / "train" / name).mkdir(parents=True)
        for i in range(5):
            (manual_dir / "train" / name / f"{i}.jpg").write_bytes(encoded(gradient(48 + i, 64), "JPEG"))
    odd_folder.rename(manual_dir / "train/Type_1/odd")
    not_utf8 = manual_dir / "train/Type_1/odd" / os.fsdecode(b"caf\xe9.jpg")
    not_utf8.write_bytes(encoded(gradient(), "JPEG"))
    made = Cervix(config="initial", data_dir=tmp_path / "data", file_format="array_record")
    made.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    reread = Cervix(config="initial", data_dir=tmp_path / "data", file_format="array_record")
    refused = REFUSED | {not_utf8.name: "a name that is not UTF-8, which an id has to be"}
    refused["up.jpg"] = "No such file or directory"  # moved, it leads nowhere
    assert reread.info.metadata["dropped"] == {f"train/Type_1/odd/{name}": reason for name, reason in refused.items()}
    ids = [row["id"].decode() for split in ("train", "validation") for row in reread.as_data_source(split)]
    assert len(ids) == 15 + len(NAMES) + 2
    assert {f"train/Type_1/odd/{name}" for name in NAMES} < set(ids)


def test_odd_folders_are_predicted_with_what_is_skipped_named(odd_folder, tmp_path):
    (odd_folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(encoded(gradient(), "JPEG"))
    guess = StubPredictor(lambda image: np.array([0.5, 0.25, 0.25]))
    result = predict_folder(guess, odd_folder, tmp_path / "p.csv")
    assert {row["image_name"]: row["reason"] for row in result["skipped"]} == REFUSED
    assert json.loads(json.dumps(result)) == result
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected = {*NAMES, "more/1.jpg", "inside.jpg", os.fsdecode(b"caf\xe9.jpg")}
    assert {from_cell(row["image_name"]) for row in rows} == expected
    assert len(rows) == len(expected) == result["predicted"]
    assert {row["Type_1"] for row in rows} == {"0.50000000"}


def test_photographs_are_found_in_the_order_of_their_numbers(tmp_path):
    for name in ("10.jpg", "9.JPG", "b.png", ".hidden.jpg", "notes.txt", "ä ö.jpeg", ".thumbs/1.jpg", "@eaDir/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [p.name for p in find_photographs(tmp_path)] == ["9.JPG", "10.jpg", "b.png", "ä ö.jpeg"]
