"""taskmask: masked-language-model pre-training in which the masking policy is a pluggable part.

The names below are loaded when they are first used, so that importing the package is quick:

    from taskmask import Settings, train, register_masker
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # so that type checkers know them
    from taskmask.analysis.check.harness import check_masker as check_masker
    from taskmask.analysis.compare.runner import compare as compare
    from taskmask.analysis.inspect.inspection import inspect as inspect
    from taskmask.config import opt as opt
    from taskmask.config.settings import Settings as Settings
    from taskmask.errors import TaskmaskError as TaskmaskError
    from taskmask.inference.evaluate import evaluate as evaluate
    from taskmask.inference.loaded_model import load as load
    from taskmask.maskers.base import Masker as Masker
    from taskmask.maskers.base import MaskerConfig as MaskerConfig
    from taskmask.maskers.base import register_masker as register_masker
    from taskmask.maskers.row import RowMasker as RowMasker
    from taskmask.registry import register_criterion as register_criterion
    from taskmask.registry import register_model as register_model
    from taskmask.registry import register_task as register_task
    from taskmask.training.train import train as train

__version__ = "0.1.0"

_HOMES = {
    "Settings": "taskmask.config.settings",
    "TaskmaskError": "taskmask.errors",
    "Masker": "taskmask.maskers.base",
    "MaskerConfig": "taskmask.maskers.base",
    "RowMasker": "taskmask.maskers.row",
    "register_masker": "taskmask.maskers.base",
    "register_task": "taskmask.registry",
    "register_model": "taskmask.registry",
    "register_criterion": "taskmask.registry",
    "opt": "taskmask.config",
    "train": "taskmask.training.train",
    "evaluate": "taskmask.inference.evaluate",
    "load": "taskmask.inference.loaded_model",
    "inspect": "taskmask.analysis.inspect.inspection",
    "check_masker": "taskmask.analysis.check.harness",
    "compare": "taskmask.analysis.compare.runner",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'taskmask' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
