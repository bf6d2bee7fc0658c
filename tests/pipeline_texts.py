"""Pieces of pipeline files that several suites are about."""

from __future__ import annotations

VIEWS_A_MINUTE = """
[[steps]]
window = "tumbling"
size = "1m"
by = "page"
aggregate = { views = "count()" }
"""
"""A step: events a minute and `page`."""
