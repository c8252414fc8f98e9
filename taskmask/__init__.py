"""taskmask: masked-language-model pre-training in which the masking policy is a pluggable part.

The names below are loaded when they are first used, so that importing the package is quick:

    from taskmask import Settings, train, register_masker
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Settings": "taskmask.settings",
    "TaskmaskError": "taskmask.errors",
    "Masker": "taskmask.maskers.base",
    "MaskerConfig": "taskmask.maskers.base",
    "RowMasker": "taskmask.maskers.base",
    "register_masker": "taskmask.maskers.base",
    "register_task": "taskmask.registry",
    "register_model": "taskmask.registry",
    "register_criterion": "taskmask.registry",
    "opt": "taskmask.config",
    "train": "taskmask.training.run",
    "evaluate": "taskmask.training.evaluate",
    "load": "taskmask.training.pretrained",
    "inspect": "taskmask.analysis.inspect",
    "check_masker": "taskmask.analysis.check",
    "compare": "taskmask.analysis.compare",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'taskmask' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
