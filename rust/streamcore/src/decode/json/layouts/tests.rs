//! What a layout finds is what the full parser finds, and what layouts take is bounded.

use super::super::Projection;
use super::super::marks::{Marks, Record};
use super::super::tree::{ALTERNATIVES_MAX, PIECES_MAX};
use super::*;
use crate::raw::PADDING;
use proptest::prelude::*;

const RECORDS: [&str; 9] = [
    r#"{"id":"a1","t":"2026-01-01T00:00:00.000Z","p":{"page":"home","n":12,"ok":true},"m":{"ip":"10.0.0.1"}}"#,
    r#"{ "t" : 17 , "p" : { "page" : null , "x" : [1, "two", {}, [], -3.5e1] } , "id" : "b" }"#,
    r#"{"id":"","p":{"page":"\u00e9\n","n":-0},"extra":{"a":[{"b":"c"}]}}"#,
    r#"{"p":{"page":"é","n":0.5},"id":false}"#,
    r#"{"n":{},"id":12345678901234567890,"p":{}}"#,
    "[1]",
    r#"{"id":"x"} "#,
    r#"{"a:b":":","id":":\":","p":{"page":","}}"#,
    r#"{"id":"\\\\\" \ud83d\ude00 \u00e9\n\\u0041 \/ \b\f\r\t\\\" and on to the next word \\\\\\ud83d \udbff\udfff","p":{"page":"\\"}}"#,
];

fn projection() -> Projection {
    let paths = ["id", "p.page", "p.n", "t"].map(|path| path.split('.').map(str::to_owned).collect());
    Projection::new(&paths, 64)
}

/// What a full parse finds.
fn full(record: &[u8]) -> Option<Vec<Located>> {
    let mut found = vec![None; 4];
    projection().locate(record, &mut found).is_ok().then_some(found)
}

/// A record with bytes replaced, inserted or removed, which may leave no JSON at all.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edit = (
        any::<prop::sample::Index>(),
        0_u8..3,
        prop::sample::select(b"\"\\\\\\{}[],:0123456789.-eE tfnud\x01\xc3x".to_vec()),
    );
    (0..RECORDS.len(), proptest::collection::vec(edit, 0..4)).prop_map(|(base, edits)| {
        let mut record = RECORDS[base].as_bytes().to_vec();
        for (place, edit, byte) in edits {
            let at = place.index(record.len());
            match edit {
                0 => record[at] = byte,
                1 => record.insert(at, byte),
                _ if record.len() > 1 => {
                    record.remove(at);
                }
                _ => {}
            }
        }
        record
    })
}

/// Looks for `record` between `before` and `after`; positions are those in the record.
fn locate(layouts: &mut Layouts, before: &[u8], record: &[u8], after: &[u8]) -> Option<Vec<Located>> {
    let mut bytes = [before, record, after].concat();
    bytes.resize(bytes.len().max(before.len() + record.len() + PADDING), 0);
    let mut marks = Marks::default();
    layouts.kernel.mark(&bytes, &mut marks);
    let shift = before.len() as u32;
    let place = Record { row: 0, start: shift, end: shift + record.len() as u32 };
    let mut found = vec![None; 4];
    let rows = Rows { records: &[place], found: &mut found, fields: 4 };
    let hit = layouts.locate(Block::new(&bytes, &marks), rows) == 1;
    for value in found.iter_mut().flatten() {
        (value.start, value.end) = (value.start - shift, value.end - shift);
    }
    hit.then_some(found)
}

fn hits(layouts: &mut Layouts, record: &str) -> Option<Vec<Located>> {
    locate(layouts, b"", record.as_bytes(), b"")
}

fn teach(layouts: &mut Layouts, record: &str) {
    layouts.learn(record.as_bytes(), &full(record.as_bytes()).expect("JSON"));
}

fn taught(record: &str) -> Layouts {
    let mut layouts = Layouts::new(Kernel::chosen());
    teach(&mut layouts, record);
    layouts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_layout_finds_what_the_full_parser_finds(
        records in proptest::collection::vec((mutated(), 0..RECORDS.len(), 0..70_usize), 1..12),
        zeros in any::<bool>(),
    ) {
        for kernel in Kernel::available() {
            let mut layouts = Layouts::new(kernel);
            let valid = records.iter().filter(|(record, ..)| std::str::from_utf8(record).is_ok());
            for (record, next, shift) in valid {
                let before = &RECORDS[*next].as_bytes().repeat(24)[..*shift];
                let after = if zeros { vec![] } else { RECORDS[*next].as_bytes().repeat(PADDING) };
                let accepted = full(record);
                let fast = locate(&mut layouts, before, record, &after);
                if fast.is_some() {
                    prop_assert_eq!(&fast, &accepted, "{}", String::from_utf8_lossy(record));
                } else if let Some(found) = &accepted {
                    layouts.learn(record, found);
                    if let Some(again) = locate(&mut layouts, before, record, &after) {
                        prop_assert_eq!(&again, found);
                    }
                }
            }
        }
    }
}

#[test]
fn records_of_one_layout_hit_and_others_do_not() {
    let mut layouts = taught(RECORDS[0]);
    let same =
        RECORDS[0].replace("home", "a longer page with \\\"escapes\\\"").replace("12", "7").replace("true", "null");
    let page = hits(&mut layouts, &same).expect("a hit")[1].expect("located");
    assert_eq!(&same[page.start as usize..page.end as usize], "a longer page with \\\"escapes\\\"");
    for other in [&RECORDS[0].replace("home", "ho\\me"), &RECORDS[0].replace("12", "012"), RECORDS[3]] {
        assert_eq!(hits(&mut layouts, other), None, "{other}");
    }
}

#[test]
fn numbers_of_every_form_fit_one_layout() {
    let mut layouts = taught(RECORDS[0]);
    for number in ["0", "-0", "1234567", "12345678", "123456789012345678901234567890", "1.5", "-2e+10", "0.0E-1"] {
        assert!(hits(&mut layouts, &RECORDS[0].replace("12", number)).is_some(), "{number}");
    }
    for wrong in ["01", "1.", ".5", "1e", "+1", "--1", "", "1x", &"1".repeat(2000)] {
        assert_eq!(hits(&mut layouts, &RECORDS[0].replace("12", wrong)), None, "{wrong}");
    }
}

#[test]
fn a_value_of_another_sort_is_another_layout() {
    let mut layouts = taught(r#"{"id":"x","t":1}"#);
    for other in [r#"{"id":5,"t":1}"#, r#"{"id":null,"t":"now"}"#, r#"{"id":[],"t":1}"#, r#"{"id":"x","t":1} "#] {
        assert_eq!(hits(&mut layouts, other), None);
        teach(&mut layouts, other);
        let learned = hits(&mut layouts, other);
        assert_eq!(learned, full(other.as_bytes()).filter(|_| !other.contains("[]")), "{other}");
    }
    assert!(hits(&mut layouts, r#"{"id":"y","t":22}"#).is_some());
}

#[test]
fn a_record_cut_off_does_not_borrow_from_the_next() {
    let mut layouts = taught(RECORDS[0]);
    let record = RECORDS[0].as_bytes();
    for len in 0..record.len() {
        assert_eq!(locate(&mut layouts, b"", &record[..len], &[&record[len..], record].concat()), None, "{len}");
    }
}

#[test]
fn layouts_rest_where_they_do_not_pay_and_are_tried_again() {
    let mut layouts = Layouts::new(Kernel::chosen());
    let mut number = 0;
    while layouts.resting == 0 {
        let record = format!("{{\"field{number}\":1}}");
        assert_eq!(hits(&mut layouts, &record), None);
        teach(&mut layouts, &record);
        number += 1;
    }
    assert_eq!((number, layouts.resting), (WATCHED as usize, REST.0));
    for _ in 0..REST.0 {
        assert_eq!(hits(&mut layouts, RECORDS[0]), None);
    }
    teach(&mut layouts, RECORDS[0]);
    assert!(hits(&mut layouts, RECORDS[0]).is_some());
}

#[test]
fn with_too_many_alternatives_all_is_forgotten_and_learned_anew() {
    let mut layouts = taught(RECORDS[0]);
    for number in 0..ALTERNATIVES_MAX - 1 {
        teach(&mut layouts, &format!("{{\"field{number}\":1}}"));
        assert!(hits(&mut layouts, RECORDS[0]).is_some());
    }
    assert_eq!(layouts.forgotten(), 0);
    teach(&mut layouts, "{\"one too many\":1}");
    assert_eq!((layouts.forgotten(), hits(&mut layouts, RECORDS[0])), (1, None));
    teach(&mut layouts, RECORDS[0]);
    assert!(hits(&mut layouts, RECORDS[0]).is_some());
}

#[test]
fn what_layouts_take_is_bounded() {
    let mut layouts = Layouts::new(Kernel::chosen());
    for number in 0..200 {
        let record = format!("{{\"{}\":1,\"{}{number}\":2}}", "x".repeat(15_000), "y".repeat(9_000));
        teach(&mut layouts, &record);
        assert!(layouts.known.tree.len() <= PIECES_MAX);
    }
    assert!(layouts.forgotten() > 0);
}

#[test]
fn a_record_of_too_many_pieces_is_not_learned() {
    let long = format!("{{\"{}\":1}}", "x".repeat(40_000));
    let mut layouts = taught(&long);
    assert_eq!((layouts.known.tree.len(), hits(&mut layouts, &long)), (0, None));
}
