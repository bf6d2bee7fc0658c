"""Makes `python -m streamcore` the same as the command `streamcore`.

Before it: the interpreter. After it: `cli.py`.
Invariant: nothing but the call is here.
"""

from __future__ import annotations

import sys

from streamcore.cli import main

if __name__ == "__main__":
    sys.exit(main())
