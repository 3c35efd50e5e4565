"""The project's source files as syntax trees, parsed once: what they import, and how long they are."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


#: Folders of code beside the package; nothing in the package may lean on them either.
FOLDERS = {"training", "dataset", "benchmarks", "deploy", "lab", "tests"}


@functools.cache
def nodes(tree: ast.Module) -> tuple[ast.AST, ...]:
    """Return all nodes of a tree, walked once for all rules."""
    return tuple(ast.walk(tree))


@functools.cache
def import_statements(tree: ast.Module) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """Return those of them that most rules ask for."""
    return tuple(node for node in nodes(tree) if isinstance(node, ast.Import | ast.ImportFrom))


@dataclass(frozen=True)
class Module:
    """A source file: its path from the project's root, and its syntax tree."""

    path: str
    tree: ast.Module

    @property
    def folder(self) -> str:
        return self.path.split("/")[0] if "/" in self.path else ""

    @property
    def floor(self) -> str:
        """The room of the package: the folder or module right under ``airquality``, empty elsewhere."""
        return self.path.removesuffix(".py").split("/")[1] if self.folder == "airquality" else ""

    @property
    def name(self) -> str:
        return Path(self.path).stem

    def imports(self) -> Iterator[tuple[str, str]]:
        """Every import, wherever it is, as the name it binds and the dotted name it binds it to."""
        for node in import_statements(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.split(".")[0]
                    yield (alias.asname, alias.name) if alias.asname else (top, top)
            else:
                package = [*self.path.split("/")[: -node.level]] if node.level else []
                source = ".".join([*package, *([node.module] if node.module else [])])
                for alias in node.names:
                    yield alias.asname or alias.name, f"{source}.{alias.name}"

    def sources(self) -> set[str]:
        """The dotted names imported, in full."""
        plain = (node for node in import_statements(self.tree) if isinstance(node, ast.Import))
        return {alias.name for node in plain for alias in node.names} | {target for _, target in self.imports()}

    def imported(self) -> set[str]:
        """The top-level names imported."""
        return {target.split(".")[0] for _, target in self.imports()}

    @property
    def n_lines(self) -> int:
        return self.tree.body[-1].end_lineno or 0 if self.tree.body else 0

    def function_lengths(self) -> dict[str, int]:
        """The lines of each function, without its docstring."""
        functions = (node for node in nodes(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        return {f"{node.name}:{node.lineno}": _lines(node) for node in functions}


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    docstring = (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(function) is not None else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def parse(path: str, source: str | bytes) -> Module:
    return Module(path, ast.parse(source, path))


@functools.cache
def every_module() -> list[Module]:
    """Parse every module, once and not before a test asks: collection would wait for it in every worker."""
    return [
        parse(path.relative_to(ROOT).as_posix(), path.read_bytes())
        for folder in ("", "airquality/", *(f"{folder}/" for folder in sorted(FOLDERS)))
        for path in sorted(ROOT.glob(f"{folder}**/*.py" if folder else "*.py"))
    ]


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run at import: no function bodies, nothing under the main guard, nothing undone at its end."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "__main__" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.With) and any("catch_warnings" in ast.unparse(item) for item in child.items):
            continue
        yield child
        yield from at_import(child)


def touched(node: ast.AST, bound: dict[str, str]) -> Iterator[str]:
    """The dotted names a node calls or assigns into, as their modules spell them."""
    if isinstance(node, ast.Call):
        targets: list[ast.expr] = [node.func]
    elif isinstance(node, ast.Assign):
        targets = [target.value for target in node.targets if isinstance(target, ast.Subscript)]
    elif isinstance(node, ast.AugAssign):
        targets = [node.target]
    else:
        return
    for target in targets:
        first, *rest = ast.unparse(target).split(".")
        yield ".".join([bound.get(first, first), *rest])
