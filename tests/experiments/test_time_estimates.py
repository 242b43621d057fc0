"""Forecasts grow with what is asked for, and the time left follows from what is finished."""

import pytest

from cervix_jax.experiments import time_estimates
from cervix_jax.experiments.report_tables import EXPERIMENTS
from cervix_jax.experiments.time_estimates import RemainingTime, forecast
from cervix_jax.experiments.variants import VARIANTS, get_config


def test_forecasts_grow_with_what_is_asked_for(capsys) -> None:
    config = get_config("report")
    config.epochs = 10
    by_name = {entry["experiment"]: entry for entry in forecast(config, 1, 2400, 24.0)}
    assert set(by_name) == set(EXPERIMENTS)
    # The report's system and the one that trains its backbone: 10 epochs of 100 seconds each, times their step times.
    hours = (1 + VARIANTS["trained_3"].relative_step_time) * 10 * 100 / 3600
    assert by_name["finetune"]["hours"] == pytest.approx(hours, abs=0.01)
    cropped = {entry["experiment"]: entry["runs"] for entry in forecast(config, 1, 2400, 24.0, cropped=True)}
    assert (by_name["finetune"]["runs"], cropped["finetune"]) == (2, 4)
    assert cropped["cropping"] == by_name["cropping"]["runs"] + 1  # other crops have their own
    config.dataset.image_size = (160, 120)  # a quarter of the pixels, four times the seeds
    smaller = forecast(config, 4, 2400, 24.0)
    assert [entry["runs"] for entry in smaller] == [4 * entry["runs"] for entry in by_name.values()]
    assert smaller[6]["hours"] == pytest.approx(hours, abs=0.02)
    time_estimates.log_forecast(smaller)
    assert "finetune        section 11.3      8 runs" in capsys.readouterr().err


def test_the_time_left_is_extrapolated_from_what_is_finished(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time_estimates.time, "monotonic", lambda: now[0])
    remaining_time = RemainingTime(3.0)
    assert str(remaining_time) == ""
    now[0] = 600.0
    remaining_time.finish(1.0)
    assert str(remaining_time) == ", about 20 min left"
