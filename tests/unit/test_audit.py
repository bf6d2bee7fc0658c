"""What the audit finds in numbers that do not add up."""

from __future__ import annotations

from streamcore.audit import Audit, combined_differences, differences, to_json, unbalanced, unmerged
from streamcore.commands.audit import _lines

LEDGER = {"read": 10, "applied": 4, "filtered": 3, "rejected": 2, "late": 1, "no_window": 1, "shed": 2}


def test_a_ledger_that_adds_up_says_nothing() -> None:
    assert differences(3, LEDGER, LEDGER, 10) == []
    assert differences(3, LEDGER, LEDGER, None) == []


def test_each_number_is_held_against_another() -> None:
    assert unbalanced("lane 3", {**LEDGER, "late": 0}, ("applied", "filtered", "rejected")) == [
        "lane 3: read 10, accounted for 9, so +1 is missing"
    ]
    assert differences(3, LEDGER, {**LEDGER, "late": 3}, 10) == [
        "lane 3: read 10, accounted for 12, so -2 are missing",
        "lane 3: the manifest says late 1, and the state 3",
    ]
    assert differences(3, LEDGER, LEDGER, 9) == ["lane 3: read 10 records, and stands at offset 9"]
    assert differences(3, LEDGER, LEDGER, 13, 3) == []
    skipped = "lane 3: read 10 records, skipped 3 offsets, and stands at offset 12"
    assert differences(3, LEDGER, LEDGER, 12, 3) == [skipped]
    shed = {**LEDGER, "shed": 3}
    assert differences(3, shed, shed, 10) == ["lane 3: shed 3 cannot be part of rejected 2"]


def test_an_audit_adds_up_only_where_all_could_be_read() -> None:
    found = Audit(lanes={0: {"read": 1, "applied": 1}, 1: {"read": 2, "applied": 2}}, epochs={0: 4, 1: 5})
    assert to_json(found)["adds_up"] is True
    assert to_json(found)["total"] == {"read": 3, "applied": 3}
    assert to_json(Audit(unusable={0: ["damaged"]}))["adds_up"] is False
    assert to_json(Audit(differences=["x"]))["adds_up"] is False


def combined(partials: int, merged: int, *, missing: int = 0, applied: int = 9) -> Audit:
    counts = {"partials": partials, "merged": merged, "late_after_combine": 1, "missing": missing}
    return Audit(lanes={0: {"read": applied, "applied": applied}}, combined={0: counts})


def test_what_is_merged_is_held_against_what_was_applied() -> None:
    assert combined_differences(combined(9, 8), is_read=True) == []
    assert combined_differences(combined(7, 6), is_read=False) == []
    lost = "lanes applied 9 records, and 7 were taken where their windows meet"
    assert combined_differences(combined(7, 6), is_read=True) == [lost]
    assert combined_differences(combined(7, 6, missing=1), is_read=True) == []
    doubled = "lanes applied 9 records, and 10 were taken where their windows meet"
    assert combined_differences(combined(10, 9), is_read=False) == [doubled]
    assert combined_differences(combined(9, 9), is_read=True) == [
        "combine lane 0: took 9 records in partials, and accounts for 10"
    ]


def test_records_whose_partials_are_missing_are_told_and_not_passed_over() -> None:
    found = combined(7, 6, missing=2)
    found.epochs[0] = 3
    found.unmerged = unmerged(found)
    assert (found.unmerged, to_json(found)["unmerged"]) == (2, 2)
    assert list(_lines(found))[-3:] == [
        "combine lane 0: 7 records in partials = merged 6 + late_after_combine 1, without 2 epochs of lanes, whose partials are missing",
        "in no window: 2 of 9 applied records, whose partials are missing",
        "the rest adds up: read 9 = applied 9",
    ]
    assert unmerged(combined(7, 6)) == 0
    whole = combined(9, 8)
    whole.epochs[0] = 3
    assert list(_lines(whole))[-1] == "adds up: read 9 = applied 9"
