"""What the engine knows and what the pages list is the same: functions, aggregates, operators, reasons, headers."""

from __future__ import annotations

import re
from pathlib import Path

from streamcore.dead_letters import DeadLetter

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "rust" / "streamcore" / "src"
EXPRESSIONS = (ROOT / "docs" / "expressions.md").read_text(encoding="utf-8")
DEAD_LETTERS = (ROOT / "docs" / "dead-letters.md").read_text(encoding="utf-8")


def table(file: str, start: str, entry: str) -> list[str]:
    """What `entry` captures in the engine's table that begins with `start` and ends with `};` or `];`."""
    text = (ENGINE / file).read_text(encoding="utf-8")
    body = text[text.index(start) :]
    found = re.findall(entry, body[: re.search(r"^ *[}\]]+;?$", body, re.MULTILINE).end()])  # type: ignore[union-attr]
    assert found, f"{file} has no such table any more"
    return found


def first_cells(page: str, heading: str) -> str:
    """The first cells of the table under a heading."""
    section = page.split(f"## {heading}\n")[1].split("\n## ", maxsplit=1)[0]
    return "\n".join(re.findall(r"^\| (.*?) \|", section, re.MULTILINE))


def test_every_function_is_listed_as_it_is_called() -> None:
    known = table("expr/functions.rs", "static FUNCTIONS", r'"(\w+)" "(\(.*?\))"')
    listed = re.findall(r"`(\w+)(\(.*?\))`", first_cells(EXPRESSIONS, "Functions"))
    assert sorted(listed) == sorted(map(tuple, known))


def test_every_aggregate_is_listed() -> None:
    known = table("window/aggregate/plan.rs", "const ALL", r'\("(\w+)", Self')
    assert set(re.findall(r"`(\w+)\(", first_cells(EXPRESSIONS, "Aggregates"))) == set(known)


def test_every_operator_keyword_part_and_unit_is_listed() -> None:
    operators = first_cells(EXPRESSIONS, "Operators")
    for start in (
        "const ALL: [(Self, &'static str); 6] = [\n        (Self::Equal",
        "const ALL: [(Self, &'static str); 6] = [\n        (Self::Add",
    ):
        for spelling in table("expr/tree.rs", start, r'"(.+?)"'):
            assert f"`{spelling}`" in operators
    for keyword in table("expr/field.rs", "const KEYWORDS", r'"(\w+)"'):
        assert re.search(rf"`[^`]*\b{keyword}\b[^`]*`", EXPRESSIONS), keyword
    parts = table("expr/field.rs", "const PARTS", r'"(_\w+)"')
    assert first_cells(EXPRESSIONS, "Fields and parts of the record").split()[1:-1] == [f"`{part}`" for part in parts]
    for unit in table("expr/time.rs", "const ALL: [(&'static str, Self); 8]", r'"(\w+)"'):
        assert f"`'{unit}'`" in EXPRESSIONS


def test_the_reasons_are_the_engines() -> None:
    known = table("error.rs", "impl RejectKind", r'=> "([A-Z0-9_]+)"')
    assert re.findall(r"`([A-Z][A-Z0-9_]+)`", first_cells(DEAD_LETTERS, "Reasons")) == known


def test_the_headers_are_those_of_a_dead_letter() -> None:
    letter = DeadLetter(b"k", b"value", (), "r", "d", "t", 0, 0, 0, "p", "s").cut(1)
    listed = re.findall(r"`(dlq\.\w+)`", first_cells(DEAD_LETTERS, "What a dead letter holds"))
    assert listed == [name for name, _ in letter.all_headers()]
