"""Reads Python sources by their syntax tree: imports, function lengths, and the modules of the package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.tidy.tree import below, text

PACKAGE = Path("python")


@dataclass(frozen=True)
class Import:
    module: str
    """What is imported, as a dotted name; for `from a import b` both `a` and `a.b` are reported."""
    line: int
    lazy: bool
    """True inside a function: it costs nothing until the function runs."""


@dataclass(frozen=True)
class Function:
    name: str
    line: int
    lines: int


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(text(path), filename=str(path))


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name; a package is its `__init__.py`."""
    found = {}
    for path in below(str(PACKAGE), ".py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> list[Import]:
    return list(_imports(tree(path), lazy=False))


def _imports(node: ast.AST, *, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, lazy)
        elif isinstance(child, ast.ImportFrom):
            module = child.module or ""
            yield Import(module, child.lineno, lazy)
            for alias in child.names:
                yield Import(f"{module}.{alias.name}", child.lineno, lazy)
        elif isinstance(child, ast.If) and _is_type_checking(child.test):
            for statement in child.orelse:
                yield from _imports(statement, lazy=lazy)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, lazy=lazy or inside)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"


def functions(path: Path) -> list[Function]:
    nodes = [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [Function(node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1) for node in nodes]


def strings(path: Path) -> set[str]:
    """Every text constant: a module may be named by one (lazy exports, entry points)."""
    return {
        node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def docstring(path: Path) -> str | None:
    return ast.get_docstring(tree(path))
