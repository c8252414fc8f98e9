"""The import graph of the packages as a Mermaid drawing: python tests/support/package_graph.py

An arrow leads from a package to one that it imports; arrows that follow from others are left out.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def package_of(file: Path) -> str:
    """Returns the dotted package of a file; a module beside the packages is named itself."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1]) if len(parts) > 2 or parts[0] == "taskmask_cli" else ".".join(parts)


def imports() -> dict[str, set[str]]:
    """Returns {package: packages that its modules import}, the root left out: it only names what others hold."""
    files = [*ROOT.glob("taskmask/**/*.py"), *ROOT.glob("taskmask_cli/*.py")]
    homes = {package_of(file) for file in files} - {"taskmask.__init__"}
    graph: dict[str, set[str]] = {home: set() for home in homes}
    for file in files:
        if (home := package_of(file)) not in homes:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                found = [other for other in homes if f"{name}.".startswith(f"{other}.")]
                graph[home].update({max(found, key=len)} - {home} if found else ())
    return graph


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """Returns the packages that `start` imports, also by way of others."""
    seen: set[str] = set()
    todo = [*graph[start]]
    while todo:
        if (package := todo.pop()) not in seen:
            seen.add(package)
            todo += graph[package]
    return seen


def drawing(graph: dict[str, set[str]]) -> str:
    """Returns the graph without the arrows that follow from others, as Mermaid."""
    lines = ["graph TD"]
    for package in sorted(graph):
        direct = graph[package]
        for other in sorted(direct - {far for near in direct for far in reachable(graph, near)}):
            lines.append(f"  {package.removeprefix('taskmask.')} --> {other.removeprefix('taskmask.')}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(drawing(imports()))
