"""Engines by name: the built-in one, those detrec has adapters to, and those that other packages register.

A package registers its adapter as an entry point of the group `detrec.engines`. A name is looked up among
what is installed and nowhere else: a trace names the engine that made it, and must not name code to import.
"""

import difflib
from importlib.metadata import EntryPoint, entry_points

from detrec.errors import ConfigError

GROUP = "detrec.engines"

FOREIGN: dict[str, tuple[str, ...]] = {
    "fastdeploy": ("name", "deterministic", "split_kv_size"),
    "transformers": ("name", "device", "dtype"),
}
"""Engines that detrec has adapters to, and the keys of their section that are detrec's own."""

REGISTERED = ("name", "device", "dtype")
"""The same keys of an engine that another package registered."""


def own_keys(engine: str) -> tuple[str, ...] | None:
    """The keys of the section of `engine` that are detrec's own; None means all: it is the built-in one."""
    return None if engine == "builtin" else FOREIGN.get(engine, REGISTERED)


def registered() -> dict[str, EntryPoint]:
    """The engines that installed packages register, by name; none takes the place of one of detrec's."""
    return {
        point.name: point
        for point in entry_points(group=GROUP)
        if point.name != "builtin" and point.name not in FOREIGN
    }


def check_engine_name(name: str, where: str) -> None:
    """Raise ConfigError for an engine that neither detrec nor an installed package has."""
    # most names need no look at what is installed
    if name == "builtin" or name in FOREIGN or name in (others := registered()):
        return
    known = ("builtin", *FOREIGN, *others)
    near = difflib.get_close_matches(name, known, n=1)
    raise ConfigError(
        f"{where}: name: expected one of {', '.join(known)}, got {name!r}",
        hint=f"did you mean {near[0]}?"
        if near
        else f"a package registers an engine as an entry point of the group {GROUP}",
    )
