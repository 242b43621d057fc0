"""A plan as a reader sees it."""

from cervix_jax.planning.markdown import markdown

ESTIMATE = {
    **{"devices": 4, "batch_size": 32, "images_per_second": 12345.6, "efficiency": 0.875},
    **{"compute_seconds": 1e-3, "memory_seconds": 2e-3, "communication_seconds": 3e-4, "step_seconds": 2.3e-3},
}
PLAN = {
    **{"topology": "v5e:2x2", "devices": 4, "batch_per_device": 8, "gradient_bytes": 1_500_000},
    "bytes_per_device": {"parameters": 1_500_000, "average": 0, "total": 2_000_000_000},
    **{"flops_per_step": 12.3e9, "memory_traffic_per_device": 4.5e9},
    "collectives": {
        **{"count": 3, "bytes": 1_600_000, "by_kind": {"all-reduce": 3}},
        "largest": {"kind": "all-reduce", "bytes": 1_550_000, "arrays": 7},
    },
    **{"largest_batch_per_device": 640, "weak_scaling": [ESTIMATE]},
}


def test_each_number_has_its_unit() -> None:
    lines = markdown(PLAN).splitlines()
    assert lines[0] == "v5e:2x2: 4 devices, 8 images each"
    assert "| parameters | 1.50 |" in lines
    assert "| total | 2,000.00 |" in lines
    assert not any("average" in line for line in lines)  # there is none
    assert "arithmetic: 12.3 GFLOP per step, all devices together" in lines
    (communication,) = (line for line in lines if line.startswith("communication: "))
    assert communication == (
        "communication: 3 collectives of 1.60 MB in total; the largest is one all-reduce of 1.55 MB in 7 arrays, "
        "and the gradients are 1.50 MB"
    )
    assert "largest batch that was compiled and fits: 640 images per device" in lines
    assert lines[-1] == "| 4 | 32 | 1.00 | 2.00 | 0.30 | 2.30 | 12,346 | 0.88 |"
    assert lines[-3].count("|") == lines[-2].count("|") == lines[-1].count("|")


def test_without_published_figures_nothing_is_estimated() -> None:
    collectives = {"count": 0, "bytes": 0, "by_kind": {}, "largest": None}
    plan = {name: x for name, x in PLAN.items() if name not in ("weak_scaling", "largest_batch_per_device")}
    text = markdown(plan | {"collectives": collectives})
    assert text.endswith("communication: 0 collectives of 0.00 MB in total")
