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
    with pytest.raises(ReadersError, match="cannot be read"):
        read_labels(path, NAMES, CLASS_NAMES)
    path.write_text("reader,image_name,type\nAnn,a.jpg,Type_2\nBo,Type_3/d.jpg,Type_3\nBo,gone.jpg,Type_3\n")
    assert read_labels(path, NAMES, CLASS_NAMES) == {"Ann": {NAMES[0]: 1}, "Bo": {NAMES[3]: 2}}
    for rows, message in (
        ("image_name,type\n", "has no column reader"),
        ("image_name,reader,type\na.jpg,Ann,2\n", "line 2: the type is '2'"),
        ("image_name,reader,type\na.jpg,Ann,Type_1\na.jpg,Ann,Type_2\n", "line 3: a second label"),
    ):
        path.write_text(rows)
        with pytest.raises(ReadersError, match=message):
            read_labels(path, NAMES, CLASS_NAMES)
    path.write_text("image_name,reader,type\na.jpg,Ann,Type_1\n")
    with pytest.raises(ReadersError, match="may be"):
        read_labels(path, [NAMES[0], "Type_2/a.jpg"], CLASS_NAMES)
    with pytest.raises(ReadersError, match="may be"):  # though only one of them can be read
        read_labels(path, NAMES[:1], CLASS_NAMES, damaged=["Type_2/a.jpg"])
    with pytest.raises(ReadersError, match="names none of the 1 photographs"):
        read_labels(path, NAMES[1:2], damaged=NAMES[:1])
    with pytest.raises(ReadersError, match="names none of the 1 photographs"):
        read_labels(path, NAMES[1:2])
    path.write_bytes("image_name,reader,type\na.jpg,José,Type_1\n".encode("cp1252"))
    with pytest.raises(ReadersError, match="as CSV in UTF-8"):
        read_labels(path, NAMES)


def test_names_may_be_those_of_our_own_tables_and_types_those_of_one_against_the_rest(tmp_path, capsys) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("image_name,reader,type\n'=1.jpg,Ann,Type_2\nb.jpg,Ann,Type_3\nc.jpg,Ann,Type_1\n")
    assert read_labels(path, ["=1.jpg", "b.jpg"], ("rest", "Type_3")) == {"Ann": {"=1.jpg": 0, "b.jpg": 1}}
    assert "1 of 3 lines are about other photographs" in capsys.readouterr().err


@pytest.mark.parametrize("weights", [(), (0.5, 1.0, 4.0)])
@pytest.mark.parametrize("softness", [{}, {"label_smoothing": 0.1, "ambiguity": 0.2}])
def test_the_loss_is_the_mean_of_the_readers_losses(weights, softness) -> None:
    readings = {"Ann": {NAMES[0]: 0, NAMES[1]: 0}, "Bo": {NAMES[0]: 1, NAMES[1]: 0}, "Cy": {NAMES[0]: 1}}
    labels = np.array([2, 0, 1, 2])
    targets = reader_targets(count_readers(readings, NAMES, 3), labels)
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))
    by_label = np.stack([cross_entropy(logits, jnp.full(4, k), weights, **softness) for k in range(3)], axis=1)
    wanted = [(by_label[0, 0] + 2 * by_label[0, 1]) / 3, by_label[1, 0], by_label[2, 1], by_label[3, 2]]
    found = cross_entropy(logits, jnp.asarray(labels), weights, targets=jnp.asarray(targets), **softness)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_training_examples_aim_at_the_shares_of_readers(tiny_config, tmp_path) -> None:
    data = load_dataset(tiny_config)
    first, held_out = data.examples("train").ids[0], data.examples("validation").ids[0]
    table = tmp_path / "readings.csv"
    config = tiny_config.copy_and_resolve_references()
    config.dataset.readers = str(table)

    def examples(*rows, split="train", to_train=True):
        table.write_text("image_name,reader,type\n" + "".join(",".join(row) + "\n" for row in rows))
        return data.with_splits(config).examples(split, to_train=to_train)

    rows = [(first, "Ann", "Type_1"), (first, "Bo", "Type_3"), (first, "Cy", "Type_2"), (first, "Di", "Type_2")]
    aimed = examples(*rows, (held_out, "Ann", "Type_1"))
    np.testing.assert_array_equal(aimed[0]["target"], np.float32([0.25, 0.5, 0.25]))
    np.testing.assert_array_equal(aimed[1]["target"], np.eye(3)[aimed.labels[1]])
    assert aimed.targets_digest == examples(*rows).targets_digest != examples(*rows[1:]).targets_digest
    assert "target" not in examples(*rows, to_train=False)[0]  # evaluation needs no table
    config.selection.one_vs_rest = "Type_3"
    np.testing.assert_array_equal(examples(*rows)[0]["target"], [0.75, 0.25])
