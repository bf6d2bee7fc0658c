"""Owns building the producer programs, once a machine, and running them.

Before it: a script. After it: a broker's log. The Java client comes with the broker's jars; franz-go comes through the Go proxy into
`~/.cache/streamcore/go`. Invariant: a program is built anew when one of its sources changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.producers.script import Script
from tests.servers.kafka import cache, java, libraries, version
from tests.servers.process import ServerError

HERE = Path(__file__).parent
JAVA_SOURCE = HERE / "java" / "ScriptedProducer.java"
FRANZ_SOURCES = tuple(HERE / "franz" / name for name in ("go.mod", "go.sum", "main.go"))
PROGRAMS = ("java", "librdkafka", "franz")
BUILD_TIMEOUT_S = 900.0
RUN_TIMEOUT_S = 120.0


def run(program: str, servers: str, script: Script) -> None:
    """Has one of `PROGRAMS` do what the script says, which then knows where its records are."""
    command = [*command_of(program), servers]
    done = subprocess.run(
        command, input=script.lines(), capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, f"{program} ended with {done.returncode}: {done.stderr[-3000:]}"
    script.tell([(offset, time_ms) for offset, time_ms in map(json.loads, done.stdout.splitlines())])


def command_of(program: str) -> list[str]:
    """How a program is started; it is built first if need be. Raises `ServerError`."""
    if program == "java":
        options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return [java(), *options, "-cp", f"{libraries()}/*:{java_classes()}", JAVA_SOURCE.stem]
    if program == "franz":
        return [str(franz_folder() / "franz")]
    return [sys.executable, str(HERE / "librdkafka.py")]


def java_classes() -> Path:
    """The folder of the compiled Java program."""

    def build(folder: Path) -> None:
        compiler = tool("javac", "Java's compiler (17 or newer)", "apt-get install openjdk-17-jdk-headless")
        command = [compiler, "-d", str(folder), "-cp", f"{libraries()}/*", str(JAVA_SOURCE)]
        check(command, cwd=HERE, env=os.environ, needs="Java 17 or newer")

    return built("java", (JAVA_SOURCE,), build, version=version())


def franz_folder() -> Path:
    """The folder of the program that is made of franz-go."""

    def build(folder: Path) -> None:
        go = tool("go", "Go (1.24 or newer)", "apt-get install golang-go")
        places = {"GOMODCACHE": str(cache() / "go" / "modules"), "GOCACHE": str(cache() / "go" / "build")}
        command = [go, "build", "-trimpath", "-modcacherw", "-buildvcs=false", "-o", str(folder / "franz"), "."]
        check(command, cwd=HERE / "franz", env={**os.environ, **places}, needs="Go 1.24 or newer")

    return built("franz", FRANZ_SOURCES, build)


def built(name: str, sources: Sequence[Path], build: Callable[[Path], None], version: str = "") -> Path:
    """The folder that `build` filled for these sources."""
    digest = hashlib.sha256(version.encode() + b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    folder = cache() / f"producer-{name}-{digest}"
    if folder.is_dir():
        return folder
    with (cache() / f"producer-{name}.lock").open("w") as lock:  # two test sessions may start at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            partial = Path(tempfile.mkdtemp(prefix=f"producer-{name}-", dir=folder.parent))
            try:
                build(partial)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return folder


def tool(name: str, title: str, line: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ServerError(f"{title} is missing: {line}")
    return found


def check(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], needs: str) -> None:
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise ServerError(f"{command[0]} failed, which takes {needs}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
