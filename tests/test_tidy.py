"""Holds the shape of the repository that docs/architecture.md describes, by reading its own sources.

Each test names what is out of shape and where; the tables below are the rules. A new module finds its
place in one of them, or the tests fail.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.tidy import python, rust, tree

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
FILE_BYTES_MAX = 1_000_000

ENGINE = Path("rust/streamcore/src")
KAFKA = Path("rust/streamcore-kafka/src")
BINDING = Path("rust/streamcore-python/src")
KERNELS = ENGINE / "decode" / "json" / "kernel"
# Beside them, where Arrow is taken from others: its capsules hold pointers.
UNSAFE = (KERNELS, ENGINE / "prefetch.rs", BINDING / "function.rs")

# The engine, from the bottom up: a module uses those above it in this list, never its own row.
ENGINE_LAYERS = (
    {"error", "function", "packed", "partition", "prefetch", "room", "time_text"},
    {"batch", "buffer", "codec", "spec"},
    {"saving", "partials"},
    {"raw", "results", "state", "metrics", "watermark"},
    {"expr", "generate", "group", "encode", "checkpoint", "dedupe"},
    {"decode", "join", "infer"},
    {"arrays"},
    {"window"},
    {"plan"},
    {"flow"},
    {"table"},
    {"stage"},
    {"lane"},
    {"combine", "joining"},
    {"merging"},
    {"pipeline"},
)
# Kafka's wire, from the bottom up, as the engine.
KAFKA_LAYERS = (
    {"error", "failure", "secret", "varint"},
    {"aborted", "batch_head", "compression", "config", "record", "shape"},
    {"records", "sasl", "scripted", "tls", "wire"},
    {"connection"},
    {"cluster"},
    {"fetch"},
)
# Steps are wired by plan and lane and know nothing of each other.
STEPS = {"dedupe", "expr", "join", "window"}

# The package, from the bottom up: a module imports from its own row and the rows above it.
PACKAGE_LAYERS = (
    {"_core", "errors", "clock", "gaps", "signals", "status", "versions", "aggregates", "user_aggregates", "report"},
    {"config"},
    {
        *(
            "checkpoint",
            "copy_files",
            "faults",
            "instance",
            "kafka_client",
            "kafka_consumer",
            "kafka_errors",
            "kafka_producer",
            "kafka_refusals",
            "kafka_tokens",
        ),
        *("group_offsets", "kafka_questions", "memory_log", "options", "tables", "topics", "topic_watch"),
        *("transaction_client", "transaction_errors"),
    },
    {"layouts"},
    {
        *(
            "committed_reader",
            "committed_rows",
            "lane_states",
            "manifests",
            "recipe",
            "recompute",
            "savepoint_checks",
            "state_bounds",
            "state_topics",
            "transactions",
        ),
        "windows",
    },
    {"phases", "phase_reports"},
    {
        "dead_letters",
        "functions",
        "held_outputs",
        "inference",
        "lane_files",
        "assemble_outboxes",
        "outboxes",
        "outputs",
        "progress",
        "sinks",
        "sources",
        "stream",
        "views",
        "why",
    },
    {"endings", "membership", "unread", "epoch_size"},
    {"commit", "epochs", "runner"},
    {"phase_runner"},
    {"assemble", "assemble_exactly_once"},
    {"run", "committed_state", "committed_status", "audit", "state_changes", "verification"},
    {"lateness", "next_layout"},
    {"savepoints"},
    {"rescaling", "resetting", "stage_savepoints"},
    {"draining"},
    {"pipeline", "builders"},
    {"cli", "commands", "testing"},
)

# Third-party modules and the only files that may name them. All but those in LATE are imported inside the functions
# that need them; LATE ones also at the top of files that are themselves imported late.
HOMES = {
    "confluent_kafka": (
        *(
            "committed_reader",
            "epochs",
            "group_offsets",
            "kafka_client",
            "kafka_consumer",
            "kafka_producer",
            "kafka_questions",
            "sources.kafka",
        ),
        *("sources.kafka_member", "state_changes", "topic_watch"),
        *("transaction_client", "transaction_errors", "transactions", "versions"),
    ),
    "httpx": ("sinks.webhook",),
    "orjson": (
        *(
            "assemble_exactly_once",
            "committed_state",
            "committed_rows",
            "dead_letters",
            "epochs",
            "lane_files",
            "lane_states",
            "manifests",
        ),
        *("layouts", "rescaling", "resetting", "savepoints", "sinks.kafka", "sources.iterable", "state_changes"),
        "savepoint_checks",
    ),
    "polars": ("recompute", "run", "savepoints", "sinks.parquet", "tables", "verification", "views"),
    "pyarrow": ("sinks.arrow", "tables"),
    "pydantic": ("config", "options"),
    "pydantic_core": ("config",),
    "quixstreams": ("kafka_client",),
    "redis": ("sinks.redis", "sinks.redis_outbox"),
    "rich": ("commands.execution", "sinks.console", "sinks.fitting"),
}
LATE = {"orjson", "pydantic", "pydantic_core"}

# Files without a test named after them: the suite that holds them, or "" for declarations without behaviour.
TESTED_BY = {
    "python/streamcore/__main__.py": "tests/unit/test_cli.py",
    "python/streamcore/assemble_exactly_once.py": "tests/integration/test_exactly_once.py",
    "python/streamcore/committed_state.py": "tests/integration/test_state_commands.py",
    "python/streamcore/committed_status.py": "tests/integration/test_why_kafka.py",
    "python/streamcore/commands/verify.py": "tests/unit/test_verification.py",
    "python/streamcore/commands/state.py": "tests/integration/test_state_commands.py",
    "python/streamcore/commands/state_actions.py": "tests/integration/test_state_commands.py",
    "python/streamcore/epochs.py": "tests/integration/test_exactly_once.py",
    "python/streamcore/rescaling.py": "tests/faults/test_rescale.py",
    "python/streamcore/resetting.py": "tests/faults/test_reset.py",
    "python/streamcore/draining.py": "tests/integration/test_rescale.py",
    "python/streamcore/unread.py": "tests/integration/test_rescale.py",
    "python/streamcore/lateness.py": "tests/integration/test_rescale_late.py",
    "python/streamcore/sources/kafka_old_layout.py": "tests/integration/test_rescale.py",
    "python/streamcore/faults.py": "tests/faults/test_crash_points.py",
    "python/streamcore/sources/kafka_member.py": "tests/integration/test_exactly_once.py",
    "python/streamcore/sources/kafka_partials.py": "tests/integration/test_combine_topic.py",
    "python/streamcore/savepoints.py": "tests/integration/test_state_changes.py",
    "python/streamcore/state_topics.py": "tests/integration/test_exactly_once.py",
    "python/streamcore/commands/reach.py": "tests/integration/test_check_connect.py",
    "python/streamcore/commands/sampling.py": "tests/unit/test_commands_check.py",
    "python/streamcore/config/base.py": "tests/unit/test_config_models.py",
    "python/streamcore/config/connections.py": "tests/unit/test_config_models.py",
    "python/streamcore/committed_reader.py": "tests/integration/test_committed_reader.py",
    "python/streamcore/assemble_outboxes.py": "tests/faults/test_outbox.py",
    "python/streamcore/outboxes.py": "tests/faults/test_outbox.py",
    "python/streamcore/sinks/redis_outbox.py": "tests/integration/test_redis_outbox.py",
    "python/streamcore/sinks/webhook_outbox.py": "tests/faults/test_webhook.py",
    "python/streamcore/config/sinks.py": "tests/unit/test_config_models.py",
    "python/streamcore/kafka_producer.py": "tests/integration/test_kafka_sink.py",
    "python/streamcore/sinks/base.py": "",
    "python/streamcore/sources/base.py": "",
    "python/streamcore/sources/kafka_positions.py": "tests/integration/test_kafka_source.py",
    "python/streamcore/sources/kafka_reader.py": "tests/integration/test_kafka_traps.py",
    "rust/streamcore-kafka/src/error.rs": "rust/streamcore-kafka/tests/records/damage.rs",
    "rust/streamcore-kafka/src/connection/stream.rs": "rust/streamcore-kafka/src/connection/tests.rs",
    "rust/streamcore-kafka/src/lib.rs": "",
    "rust/streamcore-kafka/src/scripted.rs": "",
    "rust/streamcore/src/dedupe/generations.rs": "rust/streamcore/src/dedupe/exact.rs",
    "rust/streamcore/src/error.rs": "",
    "rust/streamcore/src/function.rs": "tests/unit/test_functions.py",
    "rust/streamcore/src/lib.rs": "",
    "rust/streamcore/src/prefetch.rs": "",
    "rust/streamcore/src/raw/data.rs": "rust/streamcore/src/raw/placed.rs",
    "rust/streamcore/src/spec.rs": "tests/unit/test_config_engine.py",
    "rust/streamcore/src/spec/limits.rs": "tests/unit/test_config_engine.py",
    "rust/streamcore/src/spec/meeting.rs": "rust/streamcore/tests/topic/refused.rs",
}
# Modules that mean something only together, and the suite that runs them.
SUITES = {
    "rust/streamcore/tests/pipeline.rs": {"batch", "combine", "decode", "lane", "pipeline", "plan", "state", "window"},
    "rust/streamcore/tests/stages.rs": {"flow", "stage"},
    "rust/streamcore/tests/expr/main.rs": {"expr"},
    "rust/streamcore/src/checkpoint/file.rs": {"checkpoint"},
    "rust/streamcore/src/join/tests.rs": {"join"},
    "rust/streamcore/tests/joins.rs": {"joining"},
    "rust/streamcore/tests/topic/main.rs": {"merging", "partials"},
    "rust/streamcore-kafka/tests/records/main.rs": {"records"},
}

# One letter of each word stands in brackets, so that the patterns do not find themselves.
BANNED = re.compile(r"\b(?:tod[o]|unimplemente[d])!|\bNotImplementedErro[r]\b|\b(?:TOD[O]|FIXM[E]|XX[X])\b")
# Paths of somebody's machine, and hosts of package registries: both belong in that machine's settings.
PRIVATE = re.compile(
    r"(?<![\w.])/(?:wor[k]|roo[t]|hom[e]/\w+|User[s]/\w+)/|(?<![\w.])/tm[p]/\w"
    r"|\bpyp[i]\.(?:org|python)|\bfiles\.pythonhoste[d]|\bcrates\.i[o](?!-index)|\bproxy\.golan[g]"
    r"|\brepo\d*\.mave[n]|\bregistry\.np[m]"
)

CLIPPY_BANS = {
    "std::time::SystemTime::now",
    "std::time::Instant::now",
    "std::env::var",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::collections::hash_map::RandomState",
}


def sources() -> list[Path]:
    return [path for path in tree.files() if path.suffix in {".rs", ".py"}]


def rust_files(folder: Path) -> list[Path]:
    return tree.below(str(folder), ".rs")


def short(module: str) -> str:
    """`config.models` for `streamcore.config.models`; `streamcore` itself stays."""
    return module.removeprefix("streamcore.")


def is_at_home(module: str, homes: tuple[str, ...]) -> bool:
    return any(module == home or module.startswith((f"{home}.", f"{home}_")) for home in homes)


# --- lengths


def test_no_file_is_too_long() -> None:
    lines = {path: tree.text(path).count("\n") for path in sources()}
    assert {str(path): count for path, count in lines.items() if count > FILE_LINES_MAX} == {}


def test_no_function_is_too_long() -> None:
    found: list[str] = []
    for path in sources():
        functions: list[python.Function] | list[rust.Function]
        functions = python.functions(path) if path.suffix == ".py" else rust.functions(rust.code(path))
        long = (function for function in functions if function.lines > FUNCTION_LINES_MAX)
        found += [f"{path}:{function.line} {function.name}: {function.lines} lines" for function in long]
    assert found == []


def test_no_file_is_too_big() -> None:
    sizes = {str(path): (tree.ROOT / path).stat().st_size for path in tree.files()}
    assert {path: size for path, size in sizes.items() if size > FILE_BYTES_MAX} == {}


# --- openings


def test_every_source_file_opens_with_its_documentation() -> None:
    bare = [str(path) for path in sources() if path.suffix == ".rs" and not tree.text(path).startswith("//!")]
    for path in sources():
        is_unit_test = path.is_relative_to("tests/unit")  # named after the module they test
        if path.suffix == ".py" and not is_unit_test and path.read_bytes().strip() and not python.docstring(path):
            bare.append(str(path))
    assert bare == []


# --- directions


@pytest.mark.parametrize(("folder", "layers"), [(ENGINE, ENGINE_LAYERS), (KAFKA, KAFKA_LAYERS)])
def test_rust_modules_use_only_what_lies_below_them(folder: Path, layers: tuple[set[str], ...]) -> None:
    rank = {name: row for row, names in enumerate(layers) for name in names}
    wrong = []
    for path in rust_files(folder):
        module = rust.module_of(path, folder)
        if module in {"lib", "main"}:
            continue
        assert module in rank, f"{path}: give `{module}` a row among the layers"
        for used in rust.crate_uses(rust.without_tests(rust.code(path))) - {module}:
            if rank.get(used, len(layers)) >= rank[module]:
                wrong.append(f"{path} uses crate::{used}")
            if {module, used} <= STEPS:
                wrong.append(f"{path}: steps never use each other, {module} uses {used}")
    assert wrong == []


def test_the_engine_knows_nothing_of_python_and_the_world() -> None:
    manifest = tomllib.loads(tree.text(ENGINE.parent / "Cargo.toml"))
    assert not {"pyo3", "tokio", "rustls", "numpy", "rdkafka", "streamcore-kafka"} & set(manifest["dependencies"])
    assert "pyo3" not in tomllib.loads(tree.text(KAFKA.parent / "Cargo.toml"))["dependencies"]
    named = [str(path) for path in rust_files(ENGINE) if re.search(r"\bpyo3::|\btokio::", rust.code(path))]
    assert named == []


def test_package_modules_import_only_what_lies_below_them() -> None:
    rank = {name: row for row, names in enumerate(PACKAGE_LAYERS) for name in names}
    modules = python.modules()
    wrong = []
    for module, path in modules.items():
        if module in {"streamcore", "streamcore.__main__"}:
            continue
        own = short(module).split(".")[0]
        assert own in rank, f"{path}: give `{own}` a row in PACKAGE_LAYERS"
        for used in python.imports(path):
            if used.module not in modules or used.module == "streamcore":
                continue
            other = short(used.module).split(".")[0]
            if rank.get(other, len(PACKAGE_LAYERS)) > rank[own] or {own, other} == {"sources", "sinks"}:
                wrong.append(f"{path}:{used.line} imports {used.module}")
    assert wrong == []


def test_third_party_modules_stay_in_their_files() -> None:
    wrong = []
    for module, path in python.modules().items():
        for used in python.imports(path):
            root = used.module.split(".")[0]
            if root in sys.stdlib_module_names or root in {"streamcore", "__future__"}:
                continue
            assert root in HOMES, f"{path}:{used.line}: name the files that may import `{root}` in HOMES"
            if not is_at_home(short(module), HOMES[root]):
                wrong.append(f"{path}:{used.line} imports {used.module}")
            elif not used.lazy and root not in LATE:
                wrong.append(f"{path}:{used.line} imports {used.module} outside a function")
    assert wrong == []


def test_homes_name_no_file_that_is_gone() -> None:
    used = {
        (used.module.split(".")[0], short(module))
        for module, path in python.modules().items()
        for used in python.imports(path)
    }
    idle = [
        f"{root}: {home}"
        for root, homes in HOMES.items()
        for home in homes
        if not any(name == root and is_at_home(module, (home,)) for name, module in used)
    ]
    assert idle == []


@pytest.mark.parametrize("statement", ["import streamcore", "from streamcore.cli import main; main(['--help'])"])
def test_start_up_loads_nothing_heavy(statement: str) -> None:
    heavy = sorted({*HOMES, "numpy", "fastapi", "uvicorn"})
    program = f"""
import sys
try:
    {statement}
except SystemExit as end:
    assert end.code in (None, 0)
print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, text=True)
    assert (done.returncode, done.stderr) == (0, "[]\n")


# --- nothing dead, nothing untested


@pytest.mark.parametrize("folder", [ENGINE, KAFKA, BINDING])
def test_every_rust_file_is_declared(folder: Path) -> None:
    declared = {folder / "lib.rs"}
    for path in rust_files(folder):
        home = path.parent if path.name in {"lib.rs", "mod.rs"} else path.with_suffix("")
        for name in rust.submodules(rust.code(path)):
            declared |= {home / f"{name}.rs", home / name / "mod.rs"}
    assert [str(path) for path in rust_files(folder) if path not in declared] == []


def test_every_python_module_is_used() -> None:
    modules = python.modules()
    used = {"streamcore", "streamcore.__main__"}
    for module, path in modules.items():
        named = {entry.module for entry in python.imports(path)} | python.strings(path)
        used |= {name for name in named if name != module}
        used |= {name.rpartition(".")[0] for name in named}  # a module's package
    project = tomllib.loads(tree.text(Path("pyproject.toml")))["project"]
    used |= {entry.split(":")[0] for entry in project["scripts"].values()}
    commands = {f"streamcore.commands.{name}" for name in python.strings(modules["streamcore.cli"])}
    public = {"streamcore.testing"}
    assert sorted(set(modules) - used - commands - public) == []


def test_every_python_module_has_a_test() -> None:
    tests = [path for path in tree.below("tests", ".py") if path.name.startswith("test_")]
    stems = {path.stem.removeprefix("test_") for path in tests}
    imported = {entry.module for path in tests for entry in python.imports(path)}
    bare = []
    for module, path in python.modules().items():
        names = short(module).split(".")
        has_own = {names[-1], "_".join(names), "_".join(reversed(names))} & stems
        if path.name != "__init__.py" and not has_own and module not in imported and str(path) not in TESTED_BY:
            bare.append(str(path))
    assert bare == []


@pytest.mark.parametrize("folder", [ENGINE, KAFKA])
def test_every_rust_module_has_a_test(folder: Path) -> None:
    suites = [names for path, names in SUITES.items() if Path(path).is_relative_to(folder.parent)]
    together: set[str] = set().union(*suites)
    bare = []
    for path in rust_files(folder):
        neighbours = [other for other in rust_files(folder) if other.parent == path.parent and "test" in other.stem]
        has_own = "#[cfg(test)]" in tree.text(path) or neighbours or rust.module_of(path, folder) in together
        is_test = path.parent.name == "tests"
        if not has_own and not is_test and str(path) not in TESTED_BY:
            bare.append(str(path))
    assert bare == []


def test_the_suites_that_hold_others_exist() -> None:
    named = {*TESTED_BY, *SUITES, *TESTED_BY.values()} - {""}
    assert sorted(name for name in named if Path(name) not in tree.files()) == []


# --- what must not be in the sources


def test_nothing_is_left_unfinished() -> None:
    found = [
        f"{path}:{number}: {line.strip()}"
        for path in sources()
        for number, line in enumerate(tree.text(path).splitlines(), 1)
        if BANNED.search(line)
    ]
    assert found == []


def test_no_path_of_a_machine_and_no_registry() -> None:
    found: list[str] = []
    for path in tree.files():
        if path.suffix not in {".png", ".lock"}:
            lines = enumerate(tree.text(path).splitlines(), 1)
            found += [f"{path}:{number}: {line.strip()[:120]}" for number, line in lines if PRIVATE.search(line)]
    assert found == []


def test_clippy_bans_clock_environment_and_chance_in_the_engine() -> None:
    bans = tomllib.loads(tree.text(ENGINE.parent / "clippy.toml"))
    entries = bans["disallowed-methods"] + bans["disallowed-types"]
    assert {entry["path"] for entry in entries} >= CLIPPY_BANS
    assert all(entry["reason"] for entry in entries)


def test_unsafe_is_left_to_the_kernels_and_unwrap_noticed() -> None:
    lints = tomllib.loads(tree.text(Path("Cargo.toml")))["workspace"]["lints"]
    assert lints["rust"]["unsafe_code"] == "deny"
    assert lints["clippy"]["unwrap_used"] == "warn"
    for crate in (ENGINE, KAFKA, BINDING):
        assert tomllib.loads(tree.text(crate.parent / "Cargo.toml"))["lints"] == {"workspace": True}
        for path in (path for path in tree.files() if path.is_relative_to(crate) and path.suffix == ".rs"):
            allowed = "(unsafe_code" in tree.text(path) or "unsafe {" in tree.text(path)
            assert not allowed or any(path.is_relative_to(home) for home in UNSAFE), f"{path}: unsafe outside {UNSAFE}"


def test_every_unsafe_block_has_its_reason() -> None:
    for path in (path for path in tree.files() if path.is_relative_to(KERNELS)):
        lines = tree.text(path).splitlines()
        for number, line in enumerate(lines):
            assert "unsafe {" not in line or "// SAFETY:" in lines[number - 1], f"{path}:{number + 1}"
