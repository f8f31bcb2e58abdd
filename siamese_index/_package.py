"""What the package is: its version, and how its modules are loaded."""

from __future__ import annotations

import sys
from importlib.util import LazyLoader, find_spec, module_from_spec
from types import ModuleType

__version__ = "0.2.0"


def when_used(*names: str) -> list[ModuleType]:
    """Return modules of this package by name, each loaded when something of it is first used.

    A command that needs none of them starts sooner.
    """
    return [_module(f"{__package__}.{name}") for name in names]


def _module(name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    spec = find_spec(name)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    spec.loader = LazyLoader(spec.loader)
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
