"""Predictions are read back as they were written, to the last digit."""

import numpy as np

from cervix_jax.experiments.validation_predictions import FILE_NAME, ValidationPredictions


def test_what_is_written_is_read(tmp_path) -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(2), 3)
    written = ValidationPredictions(
        ["train/Type_1/0.jpg", 'a,"b".jpg', "=c.jpg"], np.array([1, 0, 1], np.int32), ("rest", "Type_2"), probabilities
    )
    written.write(tmp_path)
    read = ValidationPredictions.read(tmp_path)
    assert (read.ids, read.class_names) == (written.ids, written.class_names)
    np.testing.assert_array_equal(read.labels, written.labels)
    np.testing.assert_array_equal(read.probabilities, probabilities)
    assert (tmp_path / FILE_NAME).read_text().startswith("image_name,label,rest,Type_2\ntrain/Type_1/0.jpg,1,")
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
