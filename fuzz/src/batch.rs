//! The input of one run as text: which fields are wanted, and records one after the other.
//!
//! ```text
//! clicks
//!
//! {"event_id":"1","payload":{"page_id":"home"}}
//!
//! (null)
//! ```
//!
//! Paragraphs are separated by an empty line. The first one names the plan (`plans.rs`), with ` far` behind it
//! where the records are to lie across the end of a block; the others are records, `(null)` one without a value.
//! `%41` is the byte 0x41 anywhere. Invariant: what [`write`] writes, [`Batch::read`] reads as the same batch.

use crate::plans::{self, Wanted};

/// Most records of a batch; further ones are left out.
const RECORDS_MAX: usize = 64;

/// A record's value.
pub type Value = Option<Vec<u8>>;

/// What one run decodes.
#[derive(Debug, Clone)]
pub struct Batch {
    /// What is wanted of the records.
    pub wanted: &'static Wanted,
    /// Whether they lie across the end of a block.
    pub far: bool,
    /// Their values.
    pub records: Vec<Value>,
}

impl Batch {
    /// Reads a batch; any bytes are one.
    #[must_use]
    pub fn read(text: &[u8]) -> Self {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let mut paragraphs = split(text);
        let header = paragraphs.next().unwrap_or_default();
        let (name, far) = header.strip_suffix(b" far").map_or((header, false), |name| (name, true));
        let record = |paragraph: &[u8]| (paragraph != b"(null)").then(|| unescape(paragraph));
        Self { wanted: plans::named(name), far, records: paragraphs.take(RECORDS_MAX).map(record).collect() }
    }
}

/// The text of a batch.
#[must_use]
pub fn write(batch: &Batch) -> String {
    let mut text = batch.wanted.name.to_owned();
    text.push_str(if batch.far { " far" } else { "" });
    for record in &batch.records {
        text.push_str("\n\n");
        match record {
            None => text.push_str("(null)"),
            Some(value) => escape(value, &mut text),
        }
    }
    text + "\n"
}

/// Paragraphs, cut at two line ends in a row.
fn split(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut over = false;
    std::iter::from_fn(move || {
        if over {
            return None;
        }
        let cut = text.windows(2).position(|pair| pair == b"\n\n");
        let (paragraph, rest) = cut.map_or((text, &text[text.len()..]), |cut| (&text[..cut], &text[cut + 2..]));
        (over, text) = (cut.is_none(), rest);
        Some(paragraph)
    })
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let byte = (text[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten().and_then(hexadecimal);
        value.push(byte.unwrap_or(text[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    value
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

/// Leaves readable what a text file can hold.
fn escape(value: &[u8], text: &mut String) {
    use std::fmt::Write as _;
    if value == b"(null)" {
        return text.push_str("%28null)");
    }
    for chunk in value.utf8_chunks() {
        let valid = chunk.valid();
        for (at, character) in valid.char_indices() {
            let is_alone = character == '\n' && at > 0 && at + 1 < valid.len() && !valid[..at].ends_with('\n');
            if is_alone || (character != '%' && !character.is_control()) {
                text.push(character);
                continue;
            }
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                let _ = write!(text, "%{byte:02x}");
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "%{byte:02x}");
        }
    }
}
