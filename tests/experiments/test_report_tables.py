"""The report's tables as data."""

from cervix_jax.experiments.report_tables import EXPERIMENTS, PUBLISHED_IMAGES
from cervix_jax.experiments.variants import VARIANTS

ROWS = [row for experiment in EXPERIMENTS.values() for row in experiment.rows]


def test_the_experiments_are_the_report_s() -> None:
    assert list(EXPERIMENTS) == [
        "baselines",
        "cropping",
        "class_weights",
        "cleaning",
        "features",
        "depth",
        "finetune",
        "regularisation",
        "ensemble",
        "one_vs_rest",
    ]


def test_every_variant_is_compared_somewhere_and_none_is_missing() -> None:
    assert {name for row in ROWS for name in row.systems} == set(VARIANTS)


def test_published_accuracies_are_multiples_of_one_image() -> None:
    published = {row.published.accuracy for row in ROWS} - {None}
    odd = {a for a in published if abs(a * PUBLISHED_IMAGES - round(a * PUBLISHED_IMAGES)) > 0.02}
    assert odd == {0.5152}  # the report's own
    assert len(published) == 18


def test_a_variant_that_is_published_twice_has_the_same_numbers() -> None:
    for name in VARIANTS:
        entries = [row.published for row in ROWS if row.systems == (name,) and row.published.loss is not None]
        assert len({(published.loss, published.accuracy) for published in entries}) <= 1, name


def test_bases_and_claims_name_rows_of_their_table() -> None:
    for experiment in EXPERIMENTS.values():
        titles = [row.title for row in experiment.rows]
        assert len(set(titles)) == len(titles)
        named = {experiment.base, *(title for claim in experiment.claims for title in (claim.better, claim.than))}
        assert named <= set(titles)


def test_the_published_numbers_bear_out_what_the_report_concludes() -> None:
    """So a claim that fails here is not one that was turned round."""
    for experiment in EXPERIMENTS.values():
        loss = {row.title: row.published.loss for row in experiment.rows}
        for claim in experiment.claims:
            better, than = loss[claim.better], loss[claim.than]
            if better is not None and than is not None and "ensemble" not in claim.text:
                assert abs(better - than) < claim.margin if claim.margin else better < than, claim.text
