"""Which ops a recording keeps."""

from collections.abc import Sequence


def recorded_ops(op_names: Sequence[str], level: str) -> tuple[str, ...]:
    """`op`: all of them. `layer`: each layer's `output` and the ops outside layers."""
    if level == "op":
        return tuple(op_names)
    return tuple(name for name in op_names if "." not in name or name.endswith(".output"))
