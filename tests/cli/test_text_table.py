"""Results as people see them: everything is there, beside what belongs to it."""

from cervix_jax.cli.text_table import render

EVALUATION = {
    "loss": 0.0971604,
    "accuracy": 2 / 3,
    "num_examples": 120,
    "split": "validation",
    "kappa": None,
    "confusion_matrix": [[19, 0], [1, 100]],
    "per_class": {"Type_1": {"precision": 0.5, "support": 19}, "rest": {"precision": None, "support": 101}},
    "intervals": {"loss": [0.05, 0.15], "kappa": [None, None]},
}


def test_numbers_stand_beside_their_intervals_and_counts_under_their_types() -> None:
    assert render(EVALUATION) == "\n".join(
        [
            "                          95 % interval",
            "loss          0.09716     0.05 to 0.15",
            "accuracy      0.6667",
            "num_examples  120",
            "split         validation",
            "kappa         -           - to -",
            "",
            "confusion_matrix (rows: true)",
            "        Type_1  rest",
            "Type_1      19     0",
            "rest         1   100",
            "",
            "per_class",
            "        precision  support",
            "Type_1  0.5             19",
            "rest    -              101",
        ]
    )


def test_systems_are_compared_in_rows() -> None:
    compared = {name: {"difference": d, "interval": [d - 1, d + 1]} for name, d in (("loss", -0.25), ("accuracy", 2.0))}
    assert render({"metrics": compared}).splitlines() == [
        "metrics",
        "          difference  interval",
        "loss           -0.25  -1.25 to 0.75",
        "accuracy           2  1 to 3",
    ]


def test_groups_lists_and_what_is_empty() -> None:
    result = {
        "best": {"epoch": 3, "loss": 0.5},
        "skipped": [{"image_name": "caf\udce9.jpg", "reason": "empty file"}] * 14,
        "files": [f"{i}.png" for i in range(14)],
        "seen": [],
        "calibrated": {"temperature": 1.5, "sets": {"0.9": {"size": 2, "errors": None}}},
        "flag": True,
    }
    lines = render(result).splitlines()
    assert lines[0] == "best   epoch 3, loss 0.5"
    assert lines[1].endswith("9.png, 10.png, 11.png and 2 more")
    assert lines[2:4] == ["seen   none", "flag   yes"]
    assert lines.count(r"  caf\xe9.jpg  empty file") == 12
    assert "and 2 more" in lines
    assert lines[-5:] == ["calibrated", "  temperature  1.5", "", "  sets", "    0.9  size 2, errors -"]
