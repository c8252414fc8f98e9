"""Names to components: tasks, models, criteria and maskers, built in or plugged in."""

from taskmask.registry.components import (
    CRITERIA,
    MASKERS,
    MODELS,
    REGISTRIES,
    TASKS,
    Entry,
    NoOptions,
    Registry,
    caller,
    import_modules,
    register_criterion,
    register_model,
    register_task,
)
from taskmask.registry.plugins import load_user_dir, user_dir_checksums, user_dirs

__all__ = [
    "CRITERIA",
    "MASKERS",
    "MODELS",
    "REGISTRIES",
    "TASKS",
    "Entry",
    "NoOptions",
    "Registry",
    "caller",
    "import_modules",
    "load_user_dir",
    "register_criterion",
    "register_model",
    "register_task",
    "user_dir_checksums",
    "user_dirs",
]
