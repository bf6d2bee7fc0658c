//! Changes to a batch that keep most of it JSON: records repeated, so that their layouts are known, and records
//! with another value, more white space, a member twice, a wrong byte.
//!
//! The fuzzer's own changes, of bytes anywhere, are made beside these. Invariant: the same seed makes the same change.

use crate::batch::{Batch, Value};

/// Values of every sort, good and bad.
const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "nul",
    "truefalse",
    "NaN",
    "-Infinity",
    "0",
    "-0",
    "00",
    "-",
    "+1",
    "1.",
    ".5",
    "1e",
    "0.0",
    "-0.0E-0",
    "1E+2",
    "12345678",
    "123456789",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "9007199254740993",
    "18446744073709551616",
    "1e400",
    "1e-400",
    "123456789012345678901234567890",
    "0.1000000000000000055511151231257827",
    "2.2250738585072011e-308",
    "1.7976931348623159e308",
    "99.995",
    "\"\"",
    "\"7\"",
    "\"u7\"",
    "\"\\u00753\"",
    "\"2026-01-01T00:00:00.000Z\"",
    "\"2026-01-01T00:00:00+01:00\"",
    "\"2026-01-01T00:00:00\\u002b01:00\"",
    "\"a \\\" \\\\ \\/ \\b\\f\\n\\r\\t z\"",
    "\"\\ud83d\\ude42\"",
    "\"\\ud83d\"",
    "\"\\ude42\\ud83d\"",
    "\"\\u12g4\"",
    "\"\\x\"",
    "\"\\\\\"",
    "\"\\\"",
    "\"é 日本 🙂\"",
    "\"\u{7f}\u{80}\u{2028}\u{ffff}\"",
    "\"a\tb\"",
    "\"exactly thirty-one bytes of text\"",
    "\"a text of more than sixty-four bytes, so that its end is in another chunk than its start\"",
    "'a'",
    "[]",
    "{}",
    "[1,\"two\",{\"three\":[null]}]",
    "{\"sub\":{\"int\":1}}",
    "[1,]",
    "{\"a\":1,}",
    "{\"a\" 1}",
    "[1}",
    "// no",
];

/// Bytes that mean something to JSON or to those who look for them.
const BYTES: &[u8] = b"\"\\{}[],:0123456789+-.eEtfnu/ \t\n\r\x00\x1f\x20\x7f\x80\xbf\xc2\xe2\xed\xef\xf4\xff";

/// Choices by chance, made from a seed: xorshift64* (Vigna, 2016).
struct Choice(u64);

impl Choice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }

    fn of<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        &choices[self.below(choices.len())]
    }
}

/// Changes a batch in a few places.
pub fn mutate(batch: &mut Batch, seed: u32) {
    let mut choice = Choice(u64::from(seed) << 16 | 0x5EED);
    for _ in 0..=choice.below(3) {
        if choice.below(20) == 0 {
            batch.far = !batch.far;
        } else if choice.below(4) == 0 || batch.records.is_empty() {
            arrange(&mut batch.records, &mut choice);
        } else {
            let place = choice.below(batch.records.len());
            if choice.below(2) == 0 {
                // The one before it stays, to be learned.
                batch.records.insert(place, batch.records[place].clone());
            }
            if let Some(record) = &mut batch.records[place] {
                change(record, &mut choice);
            }
        }
    }
}

/// Repeats, removes, moves or joins records.
fn arrange(records: &mut Vec<Value>, choice: &mut Choice) {
    if records.is_empty() {
        return records.push(Some(b"{}".to_vec()));
    }
    let (from, to) = (choice.below(records.len()), choice.below(records.len()));
    match choice.below(6) {
        0 => {
            records.remove(from);
        }
        1 => records.swap(from, to),
        2 => records.insert(to, None),
        3 => {
            let next = records.remove(from);
            if let Some(Some(record)) = records.get_mut(from) {
                record.splice(..0, next.unwrap_or_default());
            }
        }
        _ => {
            // After four alike, more are tried together, and after those twice as many, up to 64.
            let copies = std::iter::repeat_n(records[from].clone(), *choice.of(&[1, 3, 4, 8, 16, 32]));
            records.splice(to..to, copies);
        }
    }
}

/// Changes one record.
fn change(record: &mut Vec<u8>, choice: &mut Choice) {
    let at = choice.below(record.len() + 1);
    match choice.below(12) {
        0..=3 => {
            let value = pick(record, choice);
            record.splice(value, choice.of(VALUES).bytes());
        }
        4 => {
            let value = pick(record, choice);
            let (open, close) = *choice.of(&[("[", "]"), ("{\"a\":", "}"), ("[0,", "]"), ("{\"\":{}, \"b\" : ", "}")]);
            let levels = *choice.of(&[1, 1, 2, 62, 63, 64, 65]);
            record.splice(value.end..value.end, close.repeat(levels).bytes());
            record.splice(value.start..value.start, open.repeat(levels).bytes());
        }
        5 => {
            // A text or number of another length moves all that comes after it.
            let byte = *choice.of(b"aaa00 \\");
            let count = *choice.of(&[1, 2, 7, 8, 31, 32, 33, 63, 64, 65, 1024]);
            record.splice(at..at, std::iter::repeat_n(byte, count));
        }
        6 => {
            let space = *choice.of(&[" ", "  ", "\n", "\t", "\r\n", "\u{c}", "\u{a0}"]);
            let at = token(record, at);
            record.splice(at..at, space.bytes());
        }
        7 => {
            let member =
                *choice.of(&["\"int\":7,", "\"text\":\"again\",", "\"a\":{},", "\"sub\":null,", "\"\\u0069nt\":1 ,"]);
            let at = record.iter().position(|byte| *byte == b'{').map_or(0, |at| at + 1);
            record.splice(at..at, member.bytes());
        }
        8 => record.truncate(at),
        9 => {
            let (start, end) = (at.min(record.len()), (at + choice.below(40)).min(record.len()));
            let copy = record[start..end].to_vec();
            let at = token(record, choice.below(record.len() + 1));
            record.splice(at..at, copy);
        }
        10 if at < record.len() => {
            record.remove(at);
        }
        11 if at < record.len() => record[at] = *choice.of(BYTES),
        _ => record.insert(at, *choice.of(BYTES)),
    }
}

/// The first place at `at` or behind where a token ends or begins.
fn token(record: &[u8], at: usize) -> usize {
    record[at..].iter().position(|byte| b"{}[],:".contains(byte)).map_or(record.len(), |ahead| at + ahead)
}

/// Where a value is: behind a colon, a comma or a bracket, up to the next one. Text with these in it is cut.
fn pick(record: &[u8], choice: &mut Choice) -> std::ops::Range<usize> {
    let ends: Vec<usize> = (0..record.len()).filter(|at| b":[,".contains(&record[*at])).collect();
    if ends.is_empty() {
        return 0..record.len();
    }
    let start = choice.of(&ends) + 1;
    let quoted = record.get(start) == Some(&b'"');
    let end = if quoted {
        record[start + 1..].iter().position(|byte| *byte == b'"').map(|end| start + end + 2)
    } else {
        record[start..].iter().position(|byte| b",]}".contains(byte)).map(|end| start + end)
    };
    start..end.unwrap_or(record.len())
}
