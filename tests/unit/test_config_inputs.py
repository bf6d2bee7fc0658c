"""Whatever `[source]` can be, another input can be."""

from __future__ import annotations

import pytest

from streamcore.config.inputs import InputBase
from streamcore.config.problems import INPUTS, SOURCES, keys_of


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_an_input_has_the_keys_of_the_source_and_its_own(kind: str) -> None:
    assert set(keys_of(INPUTS[kind])) == set(keys_of(SOURCES[kind])) | set(keys_of(InputBase))
    assert issubclass(INPUTS[kind], SOURCES[kind])
