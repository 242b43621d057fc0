"""A table of readers' labels that is read strictly, and what training makes of it."""

import jax.numpy as jnp
import numpy as np
import pytest

from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.datasets.reader_labels import ReadersError, count_readers, read_labels, reader_targets
from cervix_jax.labels import CLASS_NAMES
from cervix_jax.training.losses import cross_entropy

NAMES = ["Type_1/a.jpg", "Type_1/b.jpg", "Type_2/c.jpg", "Type_3/d.jpg"]


def test_a_table_is_read_strictly(tmp_path) -> None:
    path = tmp_path / "labels.csv"
    with pytest.raises(ReadersError, match="No such file"):
        read_labels(path, NAMES, CLASS_NAMES)
    path.write_text("reader,image_name,type\nAnn,a.jpg,Type_2\nBo,Type_3/d.jpg,Type_3\nBo,gone.jpg,Type_3\n")
    assert read_labels(path, NAMES, CLASS_NAMES) == {"Ann": {NAMES[0]: 1}, "Bo": {NAMES[3]: 2}}
    for rows, message in (
        ("image_name,type\n", "needs the columns"),
        ("image_name,reader,type\na.jpg,Ann,2\n", "line 2: the type is '2'"),
        ("image_name,reader,type\na.jpg,Ann,Type_1\na.jpg,Ann,Type_2\n", "line 3: a second label"),
    ):
        path.write_text(rows)
        with pytest.raises(ReadersError, match=message):
            read_labels(path, NAMES, CLASS_NAMES)
    path.write_text("image_name,reader,type\na.jpg,Ann,Type_1\n")
    with pytest.raises(ReadersError, match="may be"):
        read_labels(path, [NAMES[0], "Type_2/a.jpg"], CLASS_NAMES)


def test_the_loss_is_the_mean_of_the_readers_losses() -> None:
    readings = {"Ann": {NAMES[0]: 0, NAMES[1]: 0}, "Bo": {NAMES[0]: 1, NAMES[1]: 0}, "Cy": {NAMES[0]: 1}}
    labels = np.array([2, 0, 1, 2])
    targets = reader_targets(count_readers(readings, NAMES, 3), labels)
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))
    by_label = np.stack([cross_entropy(logits, jnp.full(4, k)) for k in range(3)], axis=1)
    wanted = [(by_label[0, 0] + 2 * by_label[0, 1]) / 3, by_label[1, 0], by_label[2, 1], by_label[3, 2]]
    found = cross_entropy(logits, jnp.asarray(labels), targets=jnp.asarray(targets))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_training_examples_aim_at_the_shares_of_readers(tiny_config, tmp_path) -> None:
    data = load_dataset(tiny_config)
    first = data.examples("train").ids[0]
    held_out = data.examples("validation").ids[0]
    table = tmp_path / "readings.csv"
    rows = [(first, "Ann", "Type_1"), (first, "Bo", "Type_3"), (held_out, "Ann", "Type_1")]
    table.write_text("image_name,reader,type\n" + "".join(",".join(row) + "\n" for row in rows))
    config = tiny_config.copy_and_resolve_references()
    config.dataset.readers = str(table)
    examples = data.with_splits(config).examples("train")
    np.testing.assert_array_equal(examples[0]["target"], np.float32([0.5, 0, 0.5]))
    np.testing.assert_array_equal(examples[1]["target"], np.eye(3)[examples.labels[1]])
    assert "target" not in data.with_splits(config).examples("validation")[0]
    config.selection.one_vs_rest = "Type_3"
    np.testing.assert_array_equal(data.with_splits(config).examples("train")[0]["target"], [0.5, 0.5])
    table.write_text(f"image_name,reader,type\n{held_out},Ann,Type_1\n")
    with pytest.raises(ReadersError, match="names no photograph that is trained on"):
        data.with_splits(config).examples("train")
