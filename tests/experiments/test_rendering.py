"""Pages of tables whose numbers are known."""

import dataclasses

from cervix_jax.experiments import rendering
from cervix_jax.experiments.report_tables import Claim, Published, Row
from cervix_jax.experiments.results import conclusions, table_rows
from tests.experiments.fake_results import good_probabilities, make_experiment, make_result, make_table


def page(cropped: bool = False) -> str:
    results = {
        name: make_result(name, make_table(good_probabilities(s))) for name, s in (("report", 0.5), ("sure", 0.8))
    }
    results["failed"] = dataclasses.replace(results["report"], tables={}, runs=(), reason="no weights | at all")
    rows = [Row(name, (name,), Published(0.7, 0.6)) for name in ("report", "sure", "failed", "missing")]
    experiment = make_experiment(*rows, claims=(Claim("sure is better", "sure", "report"),), note="A note.")
    if cropped:
        results["sure+cervix"] = make_result("sure+cervix", make_table(good_probabilities(0.9)))
    return rendering.markdown(
        experiment, table_rows(experiment, results), conclusions(experiment, results), "Conditions."
    )


def test_a_page_has_the_table_its_verdicts_and_what_was_not_run_and_why() -> None:
    text = page()
    assert text.startswith("## A table (report section 0)\n\nConditions.\n")
    assert "| failed | 0.7 | 60.0% | not run: no weights / at all |" in text
    assert "| missing | 0.7 | 60.0% | not run |" in text
    # Everywhere two thirds, or 0.8 + 0.2 / 3: no photograph differs from another, so the intervals have no width.
    assert (
        "| **report** (base) | 0.7 | 60.0% | 0.405 (0.405 to 0.405) | 100.0% (100.0 to 100.0) |  |  | 60.0% |" in text
    )
    sure = "| sure | 0.7 | 60.0% | 0.143 (0.143 to 0.143) | 100.0% (100.0 to 100.0) | -0.262 (-0.262 to -0.262) | "
    assert f"{sure}**better**" in text
    assert "| 100% / 100% / 100% | 1, 2, 3 |" in text
    assert "| sure is better | -0.262 (-0.262 to -0.262) | **holds** |" in text
    assert text.endswith("A note.\n")


def test_differences_show_on_which_side_of_0_they_lie() -> None:
    compared = {"value": -0.00021, "interval": [-0.012, 0.00001]}
    assert rendering.format_difference(compared) == "-0.0002 (-0.012 to +0.00001)"
    assert rendering.format_difference({"value": 0.0, "interval": [-0.0, 0.0005]}) == "+0.000 (+0.000 to +0.001)"
    assert rendering.format_difference(None) == ""


def test_every_row_has_as_many_cells_as_the_header() -> None:
    for text, extra in ((page(), 0), (page(cropped=True), 3)):
        rows = [line for line in text.splitlines() if line.startswith("| ")][: 2 + 4]
        assert {line.count(" |") for line in rows} == {len(rendering.HEADER) + extra}
    assert "| 0.069 (0.069 to 0.069) | -0.074 (-0.074 to -0.074) | **better** |" in page(cropped=True)
