"""Counts as Prometheus reads them."""

from cervix_jax.serving.counters import Counters, Histogram


def test_buckets_are_cumulative_and_their_ends_inclusive() -> None:
    histogram = Histogram("x", "Of x.", (1, 2))
    for value in (0.5, 1, 1.5, 3):
        histogram.add(value)
    assert list(histogram.lines()) == [
        "# HELP x Of x.",
        "# TYPE x histogram",
        'x_bucket{le="1"} 2',
        'x_bucket{le="2"} 3',
        'x_bucket{le="+Inf"} 4',
        "x_sum 6.000000",
        "x_count 4",
    ]


def test_counts_are_by_route_status_and_outcome() -> None:
    counters = Counters()
    for status in (200, 200, 503):
        counters.count_request("/v1/predict", status, 0.02)
    counters.count_request("/healthz", 200, 5.0)
    for outcome in ("type", "refer", "refer"):
        counters.count_photograph(outcome)
    counters.count_batch(3, 0.04)
    lines = counters.text(waiting=7).splitlines()
    assert 'cervix_jax_requests_total{route="/v1/predict",status="200"} 2' in lines
    assert 'cervix_jax_requests_total{route="/v1/predict",status="503"} 1' in lines
    assert 'cervix_jax_photographs_total{outcome="refer"} 2' in lines
    assert "cervix_jax_waiting 7" in lines
    assert 'cervix_jax_request_seconds_bucket{le="0.025"} 3' in lines
    assert "cervix_jax_request_seconds_count 3" in lines  # of the model alone
    assert 'cervix_jax_batch_size_bucket{le="2"} 0' in lines
    assert 'cervix_jax_batch_size_bucket{le="4"} 1' in lines
    assert counters.photographs == 3
    names = {line.split("{")[0].split(" ")[0] for line in lines if line[0] != "#"}
    assert {name.rpartition("_")[0] if name.endswith(("_bucket", "_sum", "_count")) else name for name in names} == {
        line.split()[2] for line in lines if line.startswith("# TYPE")
    }
