"""What would open a door to code or to the network, read from the source: none of it is there."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads", "marshal.loads",
    "numpy.load", "np.fromfile", "torch.jit.load", "torch.hub.load", "tempfile.mktemp",
}  # fmt: skip
# this interpreter is started to see whether another process masks the same, and whether libraries can be loaded
PROCESSES = {
    "taskmask/analysis/check/other_process.py": "[sys.executable, '-P', '-m', __name__, name]",
    "taskmask/system/address_space.py": "[sys.executable, '-P', '-c', code]",
}
MODULES = {
    "subprocess", "socket", "urllib", "http", "ftplib", "requests", "yaml", "tarfile", "shelve", "marshal", "xmlrpc",
    "webbrowser", "dill", "joblib",
}  # fmt: skip


def nodes():
    for file in sorted([*ROOT.glob("taskmask/**/*.py"), *ROOT.glob("taskmask_cli/*.py")]):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            yield f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", node


def test_no_call_that_runs_what_a_file_says():
    wrong = [
        f"{place} {ast.unparse(node.func)}"
        for place, node in nodes()
        if isinstance(node, ast.Call)
        and (ast.unparse(node.func) in CALLS or any(keyword.arg == "shell" for keyword in node.keywords))
    ]
    assert not wrong, wrong


def test_arrays_are_loaded_and_saved_without_pickles():
    calls = [
        (place, ast.unparse(node))
        for place, node in nodes()
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "np.save")
    ]
    assert calls and all(call.endswith("allow_pickle=False)") for _, call in calls), calls


def test_no_module_of_the_network_of_processes_or_of_unsafe_formats():
    names = [
        (place, alias.name if isinstance(node, ast.Import) else str(node.module))
        for place, node in nodes()
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    found = [(place.partition(":")[0], name) for place, name in names if name.partition(".")[0] in MODULES]
    assert found == [(place, "subprocess") for place in PROCESSES]


def test_a_process_is_started_in_few_places_and_is_this_interpreter():
    calls = [
        (place.partition(":")[0], ast.unparse(node.args[0]))
        for place, node in nodes()
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("subprocess.")
    ]
    assert dict(calls) == PROCESSES and len(calls) == len(PROCESSES)


def test_torch_loads_weights_only_in_one_place():
    calls = [
        (place, node)
        for place, node in nodes()
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    ((place, call),) = calls
    options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    assert place.startswith("taskmask/checkpoints/checkpoint.py")
    assert options == {"map_location": "'cpu'", "weights_only": "True"}
