"""What does not fit is named before anything is read; the readers' tests show the rest through real files."""

from pathlib import Path

import numpy as np
import pytest

from cervix_jax.models.weights.strict_loading import StoredArray, WeightsError, load_strict, variables_of

TEMPLATE = {"batch_stats": {"bn": {"mean": np.zeros(2), "var": np.zeros(2)}}}
NAMES = {("batch_stats", "mean"): "mean", ("batch_stats", "var"): "var"}


def load(arrays, problem=None, unexpected=()):
    stored = [
        StoredArray(variable, f"bn.{variable.name}", problem, lambda name=variable.name: arrays[name])
        for variable in variables_of(TEMPLATE, NAMES)
    ]
    return load_strict(Path("file"), TEMPLATE, stored, unexpected)


def test_arrays_come_in_the_structure_of_the_template_as_float32():
    variables = load({"mean": np.ones(2), "var": np.full(2, 2.0, np.float16)})
    assert variables["batch_stats"]["bn"]["var"].dtype == np.float32
    np.testing.assert_array_equal(variables["batch_stats"]["bn"]["mean"], [1, 1])


def test_every_problem_is_named_and_nothing_is_read():
    with pytest.raises(WeightsError) as error:
        load({}, "missing", ["odd\x1b"])
    assert str(error.value).splitlines()[1:] == [
        "  bn.mean: missing",
        "  bn.var: missing",
        r"  'odd\x1b': unexpected, the network has no such array",
    ]


def test_a_variable_that_the_format_does_not_store_is_refused():
    with pytest.raises(ValueError, match="batch_stats/bn/mean has no counterpart"):
        list(variables_of(TEMPLATE, {}))
