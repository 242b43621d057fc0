"""Starting from a run: its weights to the last bit, strictly its network and crop, no photograph that it has seen."""

import jax
import numpy as np
import pytest

from cervix_jax.config import ConfigError
from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.images.near_duplicates import signature
from cervix_jax.runs import RunError, fold_workdir, read_metrics
from cervix_jax.training import loop
from cervix_jax.training.checkpoints import read_checkpoints
from cervix_jax.training.initial_run import initial_localiser, initial_run, initial_variables, warn_of_seen
from cervix_jax.training.localiser import Localiser
from cervix_jax.training.mesh import make_mesh, replicated


@pytest.fixture
def config(tiny_config, run):
    tiny_config.init.workdir = str(run[0])
    return tiny_config


def variables_of(config, fingerprint="of other photographs"):
    return initial_variables(config, fingerprint, replicated(make_mesh()))


def test_the_weights_are_those_of_the_best_epoch(config, run) -> None:
    def read(checkpoints):
        best = checkpoints.best()
        assert checkpoints.metrics(best)["loss"] == min(row["validation_loss"] for row in read_metrics(run[0]))
        return checkpoints.restore_variables(best, variables_of(config), replicated(make_mesh()))

    expected = read_checkpoints(run[0], read)
    for found, leaf in zip(jax.tree.leaves(variables_of(config)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(found, leaf)


def test_training_goes_on_from_there(config, run, tmp_path) -> None:
    """With a learning rate next to nothing the first epoch ends where the run was best, but for batch statistics."""
    config.epochs, config.optimizer.learning_rate, config.model.batch_norm = 1, 1e-9, True
    result = loop.train(config, tmp_path / "tuned")
    best = min(row["validation_loss"] for row in read_metrics(run[0]))
    assert result["best"]["loss"] == pytest.approx(best, abs=0.15)
    assert loop.train(config, tmp_path / "tuned")["epochs"] == 1  # nothing to do, and no other configuration
    config.seed = 1
    with pytest.raises(RunError, match=r"config\.seed"):
        loop.train(config, tmp_path / "tuned")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model.widths", (8, 24), r"config\.model\.widths is \(8, 24\), and \(8, 16\) in"),
        ("dataset.image_size", (48, 32), r"config\.dataset\.image_size"),
        ("selection.one_vs_rest", "Type_1", r"config\.selection\.one_vs_rest"),
        ("dataset.crop", 0.8, r"config\.dataset\.crop is 0\.8; .* needs 1\.0"),
    ],
)
def test_another_network_is_refused(config, name, value, message) -> None:
    config.update_from_flattened_dict({name: value})
    with pytest.raises(ConfigError, match=message):
        variables_of(config)


def test_on_its_own_photographs_folds_must_be_the_run_s(config) -> None:
    fingerprint = load_dataset(config).fingerprint
    variables_of(config, fingerprint)
    config.selection.fold = 0
    variables_of(config)
    with pytest.raises(ConfigError, match=r"config\.selection\.fold is 0, and 4 in"):
        variables_of(config, fingerprint)


def test_of_a_cross_validation_it_is_the_run_of_the_same_fold(tiny_config, folds) -> None:
    tiny_config.init.workdir = str(folds.workdir)
    for fold, expected in ((0, 0), (2, 2), (4, 1)):
        tiny_config.selection.fold = fold
        assert initial_run(tiny_config) == fold_workdir(folds.workdir, expected)


def test_photographs_are_cropped_by_the_run_s_own_localiser(tiny_config, cropped_run, localiser_run) -> None:
    tiny_config.init.workdir = str(cropped_run[0])
    with pytest.raises(ConfigError, match=r"config\.dataset\.crop is 1\.0; .* needs 'init'"):
        variables_of(tiny_config)
    tiny_config.dataset.crop = "init"
    variables_of(tiny_config)
    assert initial_localiser(tiny_config) == Localiser.restore(localiser_run)


def test_a_run_without_localiser_has_none_to_lend(config) -> None:
    with pytest.raises(ConfigError, match="has no localiser"):
        initial_localiser(config)


def test_validation_photographs_that_the_run_has_seen_are_counted(config, capsys) -> None:
    images = load_dataset(config).examples("train").images
    few = [images[i] for i in range(3)]
    assert len({signature(image).tobytes() for image in few}) == 3
    warn_of_seen(config, "of other photographs", few)
    assert "3 of 3 validation photographs are near-duplicates" in capsys.readouterr().err
    warn_of_seen(config, "of other photographs", [np.random.default_rng(0).integers(0, 256, (32, 24, 3), np.uint8)])
    assert "near-duplicates" not in capsys.readouterr().err
