//! Layouts: a record that the full parser has accepted teaches where its values lie, and records of
//! the same layout are then checked against its literal bytes, so that only their values are scanned.
//!
//! `decode/mod.rs` tries the layouts of a range of records first and learns from what the full parser
//! accepts. A layout matches only a record made of the same literals and of values that need no
//! further look, so it can neither accept nor locate anything that the full parser would not.
//! Invariant: layouts hold no state of a pipeline; each range of records starts without any.

use super::Located;
use super::scan::{Kind, NUMBER_BYTES_MAX, Scanner, Value};
use super::text::plain_text_len;

/// Layouts kept for a range of records.
const LAYOUTS_MAX: usize = 8;

/// Misses after which a range whose records mostly miss stops trying.
const MISSES_MAX: usize = 64;

/// Values a layout may have; longer records go to the full parser.
const SLOTS_MAX: usize = 64;

/// What a value of a layout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotKind {
    /// Text without escapes; its quotes belong to the literals around it.
    Text,
    /// A number.
    Number,
    /// `true`, `false` or `null`.
    Word,
}

/// One value of a layout, after the literal bytes before it.
#[derive(Debug, Clone)]
struct Slot {
    /// End of the literal in [`Layout::literals`].
    literal_end: usize,
    kind: SlotKind,
    /// The wanted field that the value is.
    field: Option<usize>,
}

/// The literals and values of a record.
#[derive(Debug, Clone)]
struct Layout {
    /// Literal bytes of all slots end to end, then those after the last value.
    literals: Vec<u8>,
    slots: Vec<Slot>,
}

impl Layout {
    /// The layout of `record`, in which the full parser has `found` the wanted fields; `None` when it
    /// has too many values, or when a wanted one is an object or array.
    fn learn(record: &[u8], found: &[Located]) -> Option<Self> {
        let nested = |value: &Value| matches!(value.kind, Kind::Object | Kind::Array);
        if found.iter().flatten().any(nested) {
            return None;
        }
        let mut layout = Self { literals: Vec::new(), slots: Vec::new() };
        let (mut at, mut literal_start) = (0, 0);
        while at < record.len() {
            let (kind, start, end) = match record[at] {
                b'"' => {
                    let text = Scanner::starting_at(record, at).known_text().ok()?;
                    let (start, end) = (text.start as usize, text.end as usize);
                    if is_key(&record[end + 1..]) {
                        at = end + 1;
                        continue;
                    }
                    (SlotKind::Text, start, end)
                }
                b'-' | b'0'..=b'9' => (SlotKind::Number, at, at + number_len(&record[at..])?.0),
                b't' | b'f' | b'n' => (SlotKind::Word, at, at + word_len(&record[at..])?.0),
                _ => {
                    at += 1;
                    continue;
                }
            };
            layout.literals.extend_from_slice(&record[literal_start..start]);
            let field = found.iter().position(|value| value.is_some_and(|value| value.start as usize == start));
            layout.slots.push(Slot { literal_end: layout.literals.len(), kind, field });
            literal_start = end;
            // The closing quote begins the next literal.
            at = if kind == SlotKind::Text { end + 1 } else { end };
        }
        layout.literals.extend_from_slice(&record[literal_start..]);
        (layout.slots.len() <= SLOTS_MAX).then_some(layout)
    }

    /// Locates the wanted fields of `record` (valid UTF-8) if it has this layout.
    #[inline]
    fn locate(&self, record: &[u8], found: &mut [Located]) -> bool {
        let (mut at, mut literal_start) = (0, 0);
        for slot in &self.slots {
            let literal = &self.literals[literal_start..slot.literal_end];
            let Some(rest) = record[at..].strip_prefix(literal) else { return false };
            at += literal.len();
            literal_start = slot.literal_end;
            let value = match slot.kind {
                SlotKind::Text => {
                    let len = plain_text_len(rest);
                    if rest.get(len) != Some(&b'"') {
                        return false;
                    }
                    Some((len, Kind::Text))
                }
                SlotKind::Number => number_len(rest),
                SlotKind::Word => word_len(rest),
            };
            let Some((len, kind)) = value else { return false };
            if let Some(field) = slot.field {
                found[field] = Some(Value { kind, start: at as u32, end: (at + len) as u32 });
            }
            at += len;
        }
        record[at..] == self.literals[literal_start..]
    }
}

/// Whether text that ended just before `rest` is a field name.
fn is_key(rest: &[u8]) -> bool {
    rest.iter().find(|byte| !matches!(byte, b' ' | b'\n' | b'\r' | b'\t')) == Some(&b':')
}

/// Length and kind of the number at the start of `text`, if there is one.
#[inline]
fn number_len(text: &[u8]) -> Option<(usize, Kind)> {
    let digits = text.iter().take(NUMBER_BYTES_MAX).position(|byte| !byte.is_ascii_digit())?;
    let more = matches!(text[digits], b'.' | b'e' | b'E' | b'-');
    if !more && digits > 0 && (text[0] != b'0' || digits == 1) {
        return Some((digits, Kind::Integer));
    }
    number_len_slow(text)
}

/// Signs, fractions and exponents: as the full parser has them.
fn number_len_slow(text: &[u8]) -> Option<(usize, Kind)> {
    if !matches!(text.first(), Some(b'-' | b'0'..=b'9')) {
        return None;
    }
    let value = Scanner::starting_at(text, 0).known_number().ok()?;
    Some((value.end as usize, value.kind))
}

/// Length and kind of the word at the start of `text`, if there is one.
#[inline]
fn word_len(text: &[u8]) -> Option<(usize, Kind)> {
    let words = [(&b"true"[..], Kind::True), (b"false", Kind::False), (b"null", Kind::Null)];
    words.into_iter().find(|(word, _)| text.starts_with(word)).map(|(word, kind)| (word.len(), kind))
}

/// The layouts met in a range of records, the one of the last record first.
#[derive(Debug, Default)]
pub struct Layouts {
    /// The one that matched last comes first.
    known: Vec<Layout>,
    hits: usize,
    misses: usize,
}

impl Layouts {
    /// Locates the wanted fields of `record` (valid UTF-8) if it has a known layout. `found` holds
    /// nothing on entry, and nothing of use after a miss.
    #[inline]
    pub fn locate(&mut self, record: &[u8], found: &mut [Located]) -> bool {
        for place in 0..self.known.len() {
            if self.known[place].locate(record, found) {
                self.known[..=place].rotate_right(1);
                self.hits += 1;
                return true;
            }
        }
        false
    }

    /// Learns the layout of a record that missed and that the full parser has accepted.
    pub fn learn(&mut self, record: &[u8], found: &[Located]) {
        self.misses += 1;
        if self.misses > MISSES_MAX && self.hits < self.misses {
            self.known.clear();
            return;
        }
        if let Some(layout) = Layout::learn(record, found) {
            self.known.truncate(LAYOUTS_MAX - 1);
            self.known.insert(0, layout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Projection;
    use super::*;
    use proptest::prelude::*;

    const RECORDS: [&str; 8] = [
        r#"{"id":"a1","t":"2026-01-01T00:00:00.000Z","p":{"page":"home","n":12,"ok":true},"m":{"ip":"10.0.0.1"}}"#,
        r#"{ "t" : 17 , "p" : { "page" : null , "x" : [1, "two", {}, [], -3.5e1] } , "id" : "b" }"#,
        r#"{"id":"","p":{"page":"\u00e9\n","n":-0},"extra":{"a":[{"b":"c"}]}}"#,
        r#"{"p":{"page":"é","n":0.5},"id":false}"#,
        r#"{"n":{},"id":12345678901234567890,"p":{}}"#,
        "[1]",
        r#"{"id":"x"} "#,
        r#"{"a:b":":","id":":\":","p":{"page":","}}"#,
    ];

    fn projection() -> Projection {
        let paths = ["id", "p.page", "p.n", "t"].map(|path| path.split('.').map(str::to_owned).collect());
        Projection::new(&paths, 64)
    }

    /// A record with bytes replaced, inserted or removed, which may leave no JSON at all.
    fn mutated() -> impl Strategy<Value = Vec<u8>> {
        let edit = (
            any::<prop::sample::Index>(),
            0_u8..3,
            prop::sample::select(b"\"\\{}[],:0123456789.-eE tfn\x01\xc3x".to_vec()),
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn a_layout_finds_what_the_full_parser_finds(records in proptest::collection::vec(mutated(), 1..12)) {
            let projection = projection();
            let mut layouts = Layouts::default();
            for record in records.iter().filter(|record| std::str::from_utf8(record).is_ok()) {
                let (mut fast, mut full) = (vec![None; 4], vec![None; 4]);
                let hit = layouts.locate(record, &mut fast);
                let accepted = projection.locate(record, &mut full);
                if hit {
                    prop_assert_eq!(accepted, Ok(()), "{}", String::from_utf8_lossy(record));
                    prop_assert_eq!(fast, full);
                } else if accepted.is_ok() {
                    layouts.learn(record, &full);
                    let mut again = vec![None; 4];
                    if layouts.locate(record, &mut again) {
                        prop_assert_eq!(again, full);
                    }
                }
            }
        }
    }

    #[test]
    fn records_of_one_layout_hit_and_others_do_not() {
        let projection = projection();
        let mut layouts = Layouts::default();
        let mut found = vec![None; 4];
        projection.locate(RECORDS[0].as_bytes(), &mut found).expect("JSON");
        layouts.learn(RECORDS[0].as_bytes(), &found);
        let same = RECORDS[0].replace("home", "a longer page").replace("12", "7").replace("true", "null");
        assert!(layouts.locate(same.as_bytes(), &mut found));
        let page = found[1].expect("located");
        assert_eq!(&same[page.start as usize..page.end as usize], "a longer page");
        for other in [&RECORDS[0].replace("home", "ho\\nme"), &RECORDS[0].replace("12", "012"), RECORDS[3]] {
            assert!(!layouts.locate(other.as_bytes(), &mut found), "{other}");
        }
    }
}
