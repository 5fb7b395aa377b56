"""Plugins by entry point, of which one must be allowed by FD_PLUGINS."""

import os
from importlib.metadata import entry_points


def load_model_runner_plugins():
    allowed = os.environ.get("FD_PLUGINS", "").split(",")
    found = {
        point.name: point.load()
        for point in entry_points(group="fastdeploy.model_runner_plugins")
        if point.name in allowed
    }
    assert len(found) == 1
    return next(iter(found.values()))()
