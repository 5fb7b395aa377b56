"""What goes into FastDeploy's custom all-reduce, op by op.

Its callers import the collective by name, so the one object behind it is watched; which op it works for is
told by the module inside whose forward it is called.
"""

from collections.abc import Callable, Mapping
from typing import Any

from detrec.engines.hooks import modules_of


def watch_all_reduce(model: Any, partials: Mapping[str, str], tell: Callable[[str, Any, str], None]) -> bool:
    """Tell the input of every all-reduce inside a module of `partials` (path -> op).

    False where there is no custom all-reduce: NCCL's inputs cannot be seen, and nothing is told.
    """
    from fastdeploy.distributed import communication

    reducer = getattr(communication, "_TP_AR", None)
    if reducer is None:
        return False
    inside: list[str] = []
    modules = modules_of(model)
    for path, op in partials.items():
        modules[path].register_forward_pre_hook(lambda module, inputs, op=op: inside.append(op))
        modules[path].register_forward_post_hook(lambda module, inputs, output: inside.clear())
    reduce = reducer.custom_all_reduce

    def custom_all_reduce(x: Any, *args: Any, **kwargs: Any) -> Any:
        if inside:
            tell(inside[-1], x, type(reducer).__name__)
        return reduce(x, *args, **kwargs)

    reducer.custom_all_reduce = custom_all_reduce
    return True
