"""A plan as Markdown tables and a few lines of text."""

from typing import Any

_COLUMNS = (
    "devices",
    "batch",
    "arithmetic, ms",
    "memory, ms",
    "communication, ms",
    "step, ms",
    "images/s",
    "efficiency",
)


def markdown(plan: dict[str, Any]) -> str:
    """The result of `step_plan.plan` as Markdown."""
    collectives = plan["collectives"]
    lines = [
        f"{plan['topology']}: {plan['devices']} devices, {plan['batch_per_device']} images each",
        "",
        "| per device | MB |",
        "|---|---|",
        *(f"| {kind} | {size / 1e6:,.2f} |" for kind, size in plan["bytes_per_device"].items() if size),
        "",
        f"arithmetic: {plan['flops_per_step'] / 1e9:,.1f} GFLOP per step, all devices together",
        f"memory: each device reads and writes {plan['memory_traffic_per_device'] / 1e9:.2f} GB per step",
        f"communication: {collectives['count']} collectives of {collectives['bytes'] / 1e6:.2f} MB in total",
    ]
    if largest := collectives["largest"]:
        lines[-1] += (
            f"; the largest is one {largest['kind']} of {largest['bytes'] / 1e6:.2f} MB in {largest['arrays']} arrays, "
            f"and the gradients are {plan['gradient_bytes'] / 1e6:.2f} MB"
        )
    if "largest_batch_per_device" in plan:
        lines.append(f"largest batch that was compiled and fits: {plan['largest_batch_per_device']} images per device")
    if "weak_scaling" in plan:
        rows = map(_row, plan["weak_scaling"])
        lines += ["", f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|", *rows]
    return "\n".join(lines)


def _row(estimate: dict[str, Any]) -> str:
    times = ("compute_seconds", "memory_seconds", "communication_seconds", "step_seconds")
    cells = [
        str(estimate["devices"]),
        str(estimate["batch_size"]),
        *(f"{1e3 * estimate[time]:.2f}" for time in times),
        f"{estimate['images_per_second']:,.0f}",
        f"{estimate['efficiency']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"
