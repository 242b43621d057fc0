"""One run restored from its work directory alone."""

import shutil

import pytest

from cervix_jax.inference.member import Member
from cervix_jax.runs import QUALITY_REFERENCE, RunError, read_metrics
from cervix_jax.training.checkpoints import CheckpointError
from cervix_jax.training.mesh import make_mesh


def test_a_member_is_the_best_checkpoint_and_knows_how_it_sees_photographs(run, tiny_config, tmp_path) -> None:
    member = Member.restore(run[0], make_mesh())
    best = min(read_metrics(run[0]), key=lambda row: row["validation_loss"])
    assert (member.record["epoch"], member.validation_loss) == (best["epoch"], best["validation_loss"])
    assert member.weights == "raw"
    assert member.class_names == ("Type_1", "Type_2", "Type_3")
    assert member.transform.size == tuple(tiny_config.dataset.image_size)
    moved = shutil.copytree(run[0], tmp_path / "moved")
    (moved / QUALITY_REFERENCE).unlink()
    other = Member.restore(moved, make_mesh())
    assert other.digest == member.digest
    assert other.quality_reference is None


def test_a_folder_without_a_run_or_the_weights_is_refused(run, tmp_path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        Member.restore(tmp_path / "nothing", make_mesh())
    with pytest.raises(CheckpointError, match="kept no moving average"):
        Member.restore(run[0], make_mesh(), "ema")


def test_a_localiser_tells_no_types(localiser_run) -> None:
    with pytest.raises(RunError, match="is a localiser, which tells no types"):
        Member.restore(localiser_run, make_mesh())
