"""The package's own surface: sorted, complete, lazy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import streamcore


def test_all_is_sorted_and_everything_in_it_is_there() -> None:
    assert streamcore.__all__ == sorted(streamcore.__all__)
    assert len(set(streamcore.__all__)) == len(streamcore.__all__)
    for name in streamcore.__all__:
        assert getattr(streamcore, name) is not None
        assert getattr(streamcore, name).__doc__ or name == "__version__"
    assert dir(streamcore) == streamcore.__all__


def test_what_type_checkers_see_is_what_is_exported() -> None:
    tree = ast.parse(Path(streamcore.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported - {"annotations", "import_module", "TYPE_CHECKING", "Any"} == set(streamcore.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'streamcore' has no attribute 'nothing'"):
        streamcore.nothing  # noqa: B018


def test_importing_loads_nothing_else() -> None:
    program = "import sys, streamcore; print(sorted(n for n in sys.modules if n.startswith('streamcore')))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['streamcore']"


def test_python_m_is_the_command() -> None:
    found = subprocess.run([sys.executable, "-m", "streamcore", "--help"], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("usage: streamcore")
