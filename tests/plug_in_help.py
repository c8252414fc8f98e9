"""What a test registers or loads for everyone is taken back after it."""

import contextlib
import sys

from taskmask.registry import components, plugins


@contextlib.contextmanager
def plug_ins_taken_back():
    """Restores registries, loaded plug-ins and their modules when the `with` ends."""
    for known in components.REGISTRIES.values():
        known._load_builtin()
    entries = {kind: dict(known._entries) for kind, known in components.REGISTRIES.items()}
    loaded, modules = dict(plugins._user_dirs), set(sys.modules)
    try:
        yield
    finally:
        for kind, before in entries.items():
            components.REGISTRIES[kind]._entries.clear()
            components.REGISTRIES[kind]._entries.update(before)
        plugins._user_dirs.clear()
        plugins._user_dirs.update(loaded)
        for name in set(sys.modules) - modules:
            if name.startswith(("taskmask_user_", "plug_in_")) and name != "plug_in_help":
                del sys.modules[name]
