"""A FastDeploy source tree, imported on a machine without a GPU and without FastDeploy's compiled ops.

FastDeploy's own modules are as they are. Replaced are packages that are not installed, by empty ones, and the
compiled ops, by `numpy_ops`; the package's own __init__, which starts the whole engine, is left out.
"""

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from tests.engines.fastdeploy.numpy_ops import OPS

# imported by FastDeploy's modules for what no test here runs
_ABSENT = (
    *("aistudio_sdk", "cv2", "huggingface_hub", "paddleformers", "cuda", "transformers", "modelscope"),
    *("etcd3", "pynvml", "crcmod", "partial_json_parser", "setproctitle", "redis", "zmq", "msgpack"),
    *("prometheus_client", "opentelemetry", "openai", "xgrammar", "decord", "moviepy", "tabulate", "einops"),
)


class _AnyAttribute(type):
    """Of a class: it has every attribute."""

    def __getattr__(cls, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(name=name)


class _Anything(metaclass=_AnyAttribute):
    """A class to inherit from, whatever it is called with."""

    def __init__(self, *args, **kwargs) -> None:
        pass


class _Empty(types.ModuleType):
    """Whatever is asked of it, it has; what it has can be called, subclassed and imported from."""

    __path__ = ()

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        value = _AnyAttribute(name, (_Anything,), {}) if name[:1].isupper() else MagicMock(name=name)
        setattr(self, name, value)
        return value


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """The last finder: it makes empty modules of the packages that nobody else found."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def find_spec(self, name: str, path=None, target=None):
        if name.partition(".")[0] in _ABSENT:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        self.made.append(spec.name)
        return _Empty(spec.name)

    def exec_module(self, module) -> None:
        pass


@contextmanager
def source_tree(path: Path) -> Iterator[list[str]]:
    """Inside, `import fastdeploy.worker.gpu_model_runner` gives the one at `path`.

    Yields the modules that were made empty. Ops that are not in `OPS` are MagicMocks.
    """
    finder = _Finder()
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        # the package's own __init__ starts the whole engine: its modules are imported one by one
        package = types.ModuleType("fastdeploy")
        package.__path__ = [str(path / "fastdeploy")]
        package.__version__ = "source"
        patch.setitem(sys.modules, "fastdeploy", package)
        ops = _Empty("fastdeploy.model_executor.ops.gpu")
        vars(ops).update(OPS)
        patch.setitem(sys.modules, ops.__name__, ops)
        patch.setattr(sys, "meta_path", [*sys.meta_path, finder])
        try:
            yield finder.made
        finally:
            for name in set(sys.modules) - before:
                if name.partition(".")[0] in ("fastdeploy", *_ABSENT):
                    sys.modules.pop(name, None)
