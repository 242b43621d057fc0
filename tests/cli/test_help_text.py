"""Flags in words: their choices, defaults and meaning, without the marks that absl adds."""

import pytest
from absl import flags

from cervix_jax.cli.help_text import describe


@pytest.mark.parametrize(
    ("define", "expected"),
    [
        (
            lambda values: flags.DEFINE_integer("size", 7, "Pixels.", flag_values=values),
            "  --size\n      Pixels. (default: 7)",
        ),
        (
            lambda values: flags.DEFINE_boolean("fast", False, "Hurry.", flag_values=values),
            "  --[no]fast\n      Hurry.",
        ),
        (
            lambda values: flags.DEFINE_enum("by", None, ["a", "b"], "Order.", flag_values=values),
            "  --by=a|b\n      Order.",
        ),
        (lambda values: flags.DEFINE_multi_string("name", [], "Names.", flag_values=values), "  --name\n      Names."),
        (lambda values: flags.DEFINE_list("views", [], "Views.", flag_values=values), "  --views\n      Views."),
    ],
)
def test_a_flag_isdescribed(define, expected) -> None:
    values = flags.FlagValues()
    flag = define(values)
    assert describe(values[flag.name]) == expected
