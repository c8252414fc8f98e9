"""The rules of the house, read from the source: layers, sizes, docstrings, and what may import torch."""

import ast
import re
import sys
from pathlib import Path

import pytest
from support.package_graph import drawing, imports

ROOT = Path(__file__).parent.parent
FILES = sorted([*ROOT.glob("taskmask/**/*.py"), *ROOT.glob("taskmask_cli/*.py")])
LAYERS = (
    ("taskmask.errors",),
    ("taskmask.system",),
    ("taskmask.registry",),
    ("taskmask.config",),
    ("taskmask.tokenizer", "taskmask.stats"),
    ("taskmask.metrics",),
    ("taskmask.data",),
    ("taskmask.data.sequences",),
    ("taskmask.preprocess", "taskmask.masking", "taskmask.maskers", "taskmask.modules", "taskmask.checkpoints"),
    ("taskmask.span_columns", "taskmask.models", "taskmask.criteria"),
    ("taskmask.tasks",),
    ("taskmask.training.monitor",),
    ("taskmask.training",),
    ("taskmask.inference",),
    ("taskmask.hf", "taskmask.analysis.reporting"),
    ("taskmask.analysis", "taskmask.analysis.check", "taskmask.analysis.compare"),
    ("taskmask.analysis.inspect",),
    ("taskmask.analysis.variance",),
    ("taskmask_cli",),
)
"""Packages and single modules, the lowest first. A module imports what is in its own package or in a lower layer."""
LAYER = {home: number for number, homes in enumerate(LAYERS) for home in homes}
MOST_MODULES = 17  # in a folder
NEED_TORCH = ("taskmask.criteria", "taskmask.models", "taskmask.modules", "taskmask.stats.gradient_moments")
NEED_TORCH += ("taskmask.checkpoints", "taskmask.training", "taskmask.inference", "taskmask.hf", "taskmask.analysis")
FREE_OF_TORCH = (
    "taskmask.models",
    "taskmask.criteria",
    "taskmask.modules.heads_spec",
)  # nevertheless: `--help` is quick
BASES = {"taskmask.models.base", "taskmask.criteria.base", "taskmask.tasks.base", "taskmask.maskers.base"}
LEAVES = (
    "taskmask.tasks.word_importance",
    "taskmask.tasks.meta_masking",
    "taskmask.criteria.meta_mask",
)  # of one paper each: what nothing imports can be deleted
PRINTED_AS_IT_IS = (r"inspect.py '\n'.join(lines)",)  # `lines_of` has made them visible, but for its own colours


def module_of(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def home_of(module):
    """The longest of the layers' names that a module begins with."""
    return max((home for home in LAYER if f"{module}.".startswith(f"{home}.")), key=len, default=None)


def imports_of(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def top_level_imports(tree):
    """Imports that run when the module is imported: none inside functions or under TYPE_CHECKING."""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (name for name, _ in imports_of(ast.Module([node], [])))


@pytest.fixture(scope="module")
def trees():
    return {file: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}


def test_there_are_files_to_check():
    assert len(FILES) > 40
    assert [module_of(file) for file in FILES if not home_of(module_of(file))] == ["taskmask"]
    assert [home for home in LAYER if home not in {module_of(file) for file in FILES}] == []


def test_imports_point_downwards(trees):
    wrong = []
    for file, tree in trees.items():
        module = module_of(file)
        home = home_of(module)
        if home is None:
            continue
        for name, line in imports_of(tree):
            target = home_of(name)
            if target and target != home and LAYER[target] >= LAYER[home]:
                wrong.append(f"{file}:{line} {module} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_training_imports_no_concrete_component(trees):
    kinds = ("taskmask.models", "taskmask.criteria", "taskmask.tasks", "taskmask.maskers")
    wrong = [
        f"{file}:{line} {name}"
        for file, tree in trees.items()
        if module_of(file).startswith("taskmask.training")
        for name, line in imports_of(tree)
        if name.startswith(kinds) and not any(name == base or name.startswith(base + ".") for base in BASES)
    ]
    assert not wrong, "\n".join(wrong)


def test_tasks_import_no_concrete_masker_or_module(trees):
    allowed = ("taskmask.maskers.base.", "taskmask.modules.heads_spec.")
    wrong = [
        f"{file}:{line} {name}"
        for file, tree in trees.items()
        if module_of(file).startswith("taskmask.tasks")
        for name, line in imports_of(tree)
        if name.startswith(("taskmask.maskers", "taskmask.modules")) and not f"{name}.".startswith(allowed)
    ]
    assert not wrong, "\n".join(wrong)


def test_what_is_printed_is_visible(trees):
    """Texts of data, names and paths go to the terminal through `visible` or `to_json`; ours are constants."""
    wrong = []
    for file, tree in trees.items():
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for call in [call for call in calls if ast.unparse(call.func) == "print"]:
            for given in call.args:
                is_ours = re.fullmatch(r"'[^{]*'|f?'(\\n)?\{?[A-Z]+\}?'|[A-Z]+", ast.unparse(given), re.DOTALL)
                escaped = isinstance(given, ast.Call) and ast.unparse(given.func) in ("visible", "to_json")
                if not (is_ours or escaped or f"{file.name} {ast.unparse(given)}" in PRINTED_AS_IT_IS):
                    wrong.append(f"{file}:{call.lineno} {ast.unparse(given)}")
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_a_leaf(trees):
    assert {module_of(file) for file in FILES}.issuperset(LEAVES)
    wrong = [
        f"{file}:{line} {name}"
        for file, tree in trees.items()
        for name, line in imports_of(tree)
        if f"{name}.".startswith(tuple(f"{leaf}." for leaf in LEAVES))
    ]
    assert not wrong, "\n".join(wrong)


def test_lower_layers_import_no_torch(trees):
    wrong = [
        f"{file} imports {name}"
        for file, tree in trees.items()
        if module_of(file) in FREE_OF_TORCH or not module_of(file).startswith(NEED_TORCH)
        for name in top_level_imports(tree)
        if name.split(".")[0] == "torch"
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_way_of_others(trees):
    """Also by imports inside functions and for type checkers. The root is left out: it only names what others hold."""
    modules = {module_of(file) for file in trees} - {"taskmask"}
    needs = {module_of(file): set() for file in trees}
    for file, tree in trees.items():
        for name, _ in imports_of(tree):
            found = [m for m in (name, name.rpartition(".")[0]) if m in modules and m != module_of(file)]
            needs[module_of(file)].update(found[:1])
    while free := {module for module, needed in needs.items() if not needed & needs.keys()}:
        needs = {module: needed for module, needed in needs.items() if module not in free}
    assert not needs, {module: sorted(needed & needs.keys()) for module, needed in needs.items()}


def test_own_imports_name_files_of_this_tree(trees):
    """An editable install of another tree would lend what is missing here: setuptools 84.2.1, see findings/."""
    modules = {module_of(file) for file in trees}
    wrong = [
        f"{file}:{line} {name}"
        for file, tree in trees.items()
        for name, line in imports_of(tree)
        if name.partition(".")[0] in ("taskmask", "taskmask_cli") and not {name, name.rpartition(".")[0]} & modules
    ]
    assert not wrong, "\n".join(wrong)


def test_folders_are_small_and_say_what_they_are(trees):
    folders = {file.parent for file in trees}
    sizes = {folder: len([file for file in trees if file.parent == folder]) - 1 for folder in folders}
    assert not {str(folder): size for folder, size in sizes.items() if size > MOST_MODULES}
    assert not [folder for folder in folders if not ast.get_docstring(trees[folder / "__init__.py"])]


def test_only_known_packages_are_imported(trees):
    allowed = {"taskmask", "taskmask_cli", "torch", "numpy", "sentencepiece", "tensorboard", "tqdm"}
    allowed |= {"safetensors", "tokenizers"}  # of the extra [hf]
    wrong = [
        f"{file}:{line} {name}"
        for file, tree in trees.items()
        for name, line in imports_of(tree)
        if (top := name.split(".")[0]) not in allowed and top not in sys.stdlib_module_names
    ]
    assert not wrong, "\n".join(wrong)


def test_files_and_functions_are_short(trees):
    wrong = []
    for file, tree in trees.items():
        lines = len(file.read_text(encoding="utf-8").splitlines())
        if lines > 400:
            wrong.append(f"{file} has {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                if length > 60:
                    wrong.append(f"{file}:{node.lineno} {node.name} has {length} lines")
    assert not wrong, "\n".join(wrong)


def test_no_file_is_called_utils():
    assert not [file for file in FILES if re.search(r"util|helper|misc|common", file.stem)]


def public_definitions(body, prefix=""):
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body, f"{node.name}.")


def test_public_names_have_docstrings(trees):
    wrong = [f"{file}:1 module" for file, tree in trees.items() if tree.body and not ast.get_docstring(tree)]
    wrong += [
        f"{file}:{node.lineno} {name}"
        for file, tree in trees.items()
        for name, node in public_definitions(tree.body)
        if not ast.get_docstring(node)
    ]
    assert not wrong, "\n".join(wrong)


def test_exports_of_the_package_exist():
    import taskmask

    for name in taskmask.__all__:
        assert getattr(taskmask, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        taskmask.nonsense  # noqa: B018


def test_tests_mirror_the_package():
    for package in ("data", "metrics", "maskers", "modules", "models", "criteria", "tasks", "training", "analysis"):
        assert list((ROOT / "tests" / package).glob("test_*.py")), f"tests/{package} has no test"


def test_the_drawing_of_the_packages_is_true():
    assert drawing(imports()) in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
