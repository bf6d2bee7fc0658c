"""The test suite. A package, so that servers and helpers are imported as `tests.servers`."""
