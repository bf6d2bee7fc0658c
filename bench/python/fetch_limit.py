"""Worker: how fast a topic can be fetched, checked, decompressed and walked, by `rust/streamcore-kafka/examples/fetch_limit.rs`.

Argument: `{"program", "bootstrap", "topic", "sent"}`, where `sent` is what the topic has; prints `{"seconds", "events", "rows",
"version"}`. The time is from the first records to the last. It fails where not every record was there once, as long as it was sent.
"""

from __future__ import annotations

import json
import subprocess
import sys


def main() -> None:
    arguments = json.loads(sys.argv[1])
    command = [arguments["program"], arguments["topic"], f"bootstrap.servers={arguments['bootstrap']}"]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    found = json.loads(done.stdout)
    read = {name: found[name] for name in ("records", "bytes", "checksum")}
    sent = arguments["sent"]
    if read != {"records": sent["events"], "bytes": sent["bytes"], "checksum": sent["checksum"]}:
        raise SystemExit(f"{read} was read, and {sent} was sent")
    print(json.dumps({"seconds": found["seconds"], "events": found["records"], "rows": None, "version": ""}))


if __name__ == "__main__":
    main()
