"""Owns which versions are at work here.

Before it: installed packages and the extension. After it: `--version`, `doctor`, the header of a bug report.
Invariant: only what is asked for is imported.
"""

from __future__ import annotations

import platform
from importlib import metadata

DISTRIBUTION = "streamcore-engine"
FOREIGN_DISTRIBUTION = "streamcore"
"""Somebody else's package on the index, which would put its files into the same folder."""


def package_version(distribution: str = DISTRIBUTION) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Name and version of what matters, in the order it is shown."""
    from streamcore import _core

    return {
        "streamcore": package_version() or "from a source tree",
        "core": _core.__version__,
        "librdkafka": librdkafka_version() or "not installed",
        "Python": platform.python_version(),
        "SIMD": _core.simd(),
    }


def librdkafka_version() -> str | None:
    """The version of the Kafka client library, or None where it is not installed."""
    try:
        import confluent_kafka
    except ImportError:
        return None
    return str(confluent_kafka.libversion()[0])


def version_line() -> str:
    """Everything in one line."""
    found = versions()
    rest = ", ".join(f"{name} {version}" for name, version in found.items() if name != "streamcore")
    return f"streamcore {found['streamcore']} ({rest})"
