from __future__ import annotations

import platform
import sys

import pytest

from streamcore import _core, versions


def test_everything_that_matters_is_named() -> None:
    found = versions.versions()
    assert list(found) == ["streamcore", "core", "librdkafka", "Python", "SIMD"]
    assert found["core"] == _core.__version__
    assert found["Python"] == platform.python_version()
    assert found["SIMD"] == _core.simd()


def test_the_line_begins_with_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "package_version", lambda: "1.2.3")
    assert versions.version_line().startswith(f"streamcore 1.2.3 (core {_core.__version__}, librdkafka ")


def test_what_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert versions.package_version("no-such-distribution") is None
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    assert versions.librdkafka_version() is None
