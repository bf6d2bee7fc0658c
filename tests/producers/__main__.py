"""`python -m tests.producers`: builds the programs, or says what is missing."""

from __future__ import annotations

import sys

from tests.producers.programs import PROGRAMS, command_of
from tests.servers.process import ServerError

if __name__ == "__main__":
    try:
        for program in PROGRAMS:
            command_of(program)
    except ServerError as error:
        sys.exit(f"error: {error}")
