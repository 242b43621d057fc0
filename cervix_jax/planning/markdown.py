"""A plan as text: Markdown tables and a line or two."""

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
    """What `planning.plan` found, to be read."""
    collectives = plan["collectives"]
    lines = [
        f"{plan['topology']}: {plan['devices']} devices, {plan['batch_per_device']} images each",
        "",
        "| on a device | MB |",
        "|---|---|",
        *(f"| {kind} | {size / 1e6:,.2f} |" for kind, size in plan["bytes_per_device"].items() if size),
        "",
        f"arithmetic: {plan['flops_per_step'] / 1e9:,.1f} GFLOP a step, of all devices together",
        f"memory: a device reads and writes {plan['memory_traffic_per_device'] / 1e9:.2f} GB a step",
        f"communication: {collectives['count']} exchanges of {collectives['bytes'] / 1e6:.2f} MB together",
    ]
    if largest := collectives["largest"]:
        lines[-1] += (
            f"; the largest, {largest['kind']}, is of {largest['bytes'] / 1e6:.2f} MB in {largest['arrays']} arrays, "
            f"and the gradient has {plan['gradient_bytes'] / 1e6:.2f} MB"
        )
    if "largest_batch_per_device" in plan:
        lines.append(f"largest batch that was compiled and fits: {plan['largest_batch_per_device']} images a device")
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
