"""Reads the repository's own sources for `tests/test_tidy.py`: `rust.py` and `python.py` scan, `tree.py` lists files."""
