"""Batches: every example, no example twice, the same on any number of processes, and from a saved position."""

import numpy as np
import pytest

from cervix_jax.datasets import pipeline
from cervix_jax.datasets.dataset import load_dataset


@pytest.fixture
def examples(tiny_config):
    return load_dataset(tiny_config).examples("train")


def every_image(examples):
    return np.stack([examples.image(i) for i in range(len(examples))])


def indices(batches, count):
    return np.concatenate([next(batches)["index"] for _ in range(count)])


def test_every_pass_holds_every_example_once_in_another_order(examples, tiny_config):
    assert len(examples) == 48
    batches = pipeline.training_batches(examples, tiny_config)
    first, second = indices(batches, 3), indices(batches, 3)
    assert sorted(first) == sorted(second) == list(range(48))
    assert list(first) != list(second)


def test_no_example_is_left_out_where_batches_do_not_divide(examples, tiny_config):
    tiny_config.batch_size = 20
    seen = indices(pipeline.training_batches(examples, tiny_config), 12)  # five passes
    assert (np.bincount(seen, minlength=48) == 5).all()


def test_order_is_a_function_of_the_seed(examples, tiny_config):
    first = indices(pipeline.training_batches(examples, tiny_config), 4)
    again = indices(pipeline.training_batches(examples, tiny_config), 4)
    np.testing.assert_array_equal(first, again)
    tiny_config.seed = 1
    assert list(indices(pipeline.training_batches(examples, tiny_config), 4)) != list(first)


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_same_global_batches(examples, tiny_config, count):
    whole = pipeline.training_batches(examples, tiny_config)
    shards = [
        pipeline.training_batches(examples, tiny_config, process_index=i, process_count=count) for i in range(count)
    ]
    for _ in range(5):
        parts = [next(shard)["index"] for shard in shards]
        assert {len(part) for part in parts} == {16 // count}
        assert sorted(np.concatenate(parts)) == sorted(next(whole)["index"])


def test_a_saved_position_continues_with_the_next_batch(examples, tiny_config):
    batches = pipeline.training_batches(examples, tiny_config)
    indices(batches, 4)
    position = batches.get_state()
    expected = indices(batches, 3)
    resumed = pipeline.training_batches(examples, tiny_config)
    resumed.set_state(position)
    np.testing.assert_array_equal(indices(resumed, 3), expected)


def test_images_held_in_memory_and_decoded_anew_are_the_same(tiny_config):
    held = load_dataset(tiny_config).examples("train")
    tiny_config.dataset.cache_bytes = 0
    decoded = load_dataset(tiny_config).examples("train")
    for _ in range(2):
        np.testing.assert_array_equal(every_image(held), every_image(decoded))
    assert every_image(held).shape == (48, 32, 24, 3)


def test_an_image_is_decoded_once(examples, monkeypatch):
    before = np.stack(examples.images)
    monkeypatch.setattr(pipeline, "read_photograph", lambda *args, **kwargs: pytest.fail("decoded again"))
    np.testing.assert_array_equal(every_image(examples), before)


def test_images_are_a_sequence(examples):
    images = examples.images
    assert len(images) == 48
    np.testing.assert_array_equal(images[-1], examples.image(47))
    np.testing.assert_array_equal(np.stack(images[3:6]), np.stack([examples.image(i) for i in range(3, 6)]))
    with pytest.raises(IndexError):
        images[48]


def test_mean_image_and_class_priors(examples):
    parts = [examples.pixel_sums(i, 3) for i in range(3)]
    np.testing.assert_array_equal(sum(parts), every_image(examples).astype(int).sum(axis=0))
    np.testing.assert_array_equal(examples.pixel_sums(), sum(parts))
    assert examples.class_priors() == [np.mean(examples.labels == label) for label in range(3)]


def test_what_does_not_fit_is_refused(examples, tiny_config):
    with pytest.raises(pipeline.DatasetError, match="does not divide over 3 processes"):
        pipeline.training_batches(examples, tiny_config, process_count=3)
    tiny_config.batch_size = 64
    with pytest.raises(pipeline.DatasetError, match="there are 48 training images"):
        pipeline.training_batches(examples, tiny_config)
