//! Group keys as bytes whose order is the order of the values: null first, then by value, column
//! by column.
//!
//! `mod.rs` encodes a key once a batch; state tables, sorting and the result columns work on
//! the bytes. Invariant: `decode` gives back exactly what `encode` took.

use crate::batch::{Column, DataType, Scalar};

const NULL: u8 = 0;
const VALUE: u8 = 1;

/// Encodes and decodes keys of fixed column types.
#[derive(Debug, Clone)]
pub struct KeyCodec {
    types: Vec<DataType>,
}

impl KeyCodec {
    /// For key columns of `types`.
    #[must_use]
    pub fn new(types: Vec<DataType>) -> Self {
        Self { types }
    }

    /// Types of the key columns.
    #[must_use]
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// Appends the key of `row`; true when one of its columns is null.
    #[inline]
    pub fn encode(&self, columns: &[&Column], row: usize, out: &mut Vec<u8>) -> bool {
        let mut any_null = false;
        let last = columns.len().wrapping_sub(1);
        for (place, column) in columns.iter().enumerate() {
            match column.get(row) {
                Scalar::Null => {
                    any_null = true;
                    out.push(NULL);
                }
                Scalar::Bytes(bytes) => {
                    out.push(VALUE);
                    // The last text needs no end mark: it ends where the key ends.
                    if place == last { out.extend_from_slice(bytes) } else { encode_marked(bytes, out) }
                }
                Scalar::Bool(value) => out.extend_from_slice(&[VALUE, u8::from(value)]),
                Scalar::Int64(value) => encode_fixed(&(value ^ i64::MIN).to_be_bytes(), out),
                Scalar::Float64(value) => encode_fixed(&ordered_bits(value).to_be_bytes(), out),
                Scalar::Decimal(value) => encode_fixed(&(value ^ i128::MIN).to_be_bytes(), out),
            }
        }
        any_null
    }

    /// Appends the key of one text that is the only column.
    #[inline]
    pub fn encode_text(text: &[u8], out: &mut Vec<u8>) {
        out.push(VALUE);
        out.extend_from_slice(text);
    }

    /// The text that [`encode_text`](Self::encode_text) made `key` of.
    #[must_use]
    #[inline]
    pub fn text_of(key: &[u8]) -> &[u8] {
        &key[1..]
    }

    /// Appends the values of `key`, one to each of `columns`.
    ///
    /// # Panics
    /// When `key` was not made by a codec of the same types; saved keys are checked on the way in.
    pub fn decode(&self, key: &[u8], columns: &mut [Column]) {
        let mut rest = key;
        let mut text = Vec::new();
        for (place, (data_type, column)) in self.types.iter().zip(columns).enumerate() {
            let last = place + 1 == self.types.len();
            let value = next_value(*data_type, last, &mut rest, &mut text).expect("keys are checked when loaded");
            column.push(value);
        }
    }

    /// Whether a column of `data_type` has one text, which [`text`](Self::text) gives.
    #[must_use]
    pub const fn has_text(data_type: DataType) -> bool {
        matches!(data_type, DataType::String | DataType::Binary | DataType::Int64 | DataType::Bool)
    }

    /// Appends the text of column `place` of `key`, as it stands in a record; false where it is null or has none.
    ///
    /// # Panics
    /// As [`decode`](Self::decode).
    pub fn text(&self, key: &[u8], place: usize, out: &mut Vec<u8>) -> bool {
        let (mut rest, mut marked) = (key, Vec::new());
        for (at, data_type) in self.types[..=place].iter().enumerate() {
            let last = at + 1 == self.types.len();
            let value = next_value(*data_type, last, &mut rest, &mut marked).expect("keys are checked when loaded");
            if at < place {
                continue;
            }
            match value {
                Scalar::Bytes(bytes) => out.extend_from_slice(bytes),
                Scalar::Int64(value) if *data_type == DataType::Int64 => {
                    out.extend_from_slice(value.to_string().as_bytes());
                }
                Scalar::Bool(value) => out.extend_from_slice(value.to_string().as_bytes()),
                _ => return false,
            }
        }
        true
    }

    /// True when `key` is a key of these types; for keys that come from saved state.
    #[must_use]
    pub fn is_valid(&self, key: &[u8]) -> bool {
        let mut rest = key;
        let mut text = Vec::new();
        for (place, data_type) in self.types.iter().enumerate() {
            let value = next_value(*data_type, place + 1 == self.types.len(), &mut rest, &mut text);
            let valid = match (value, data_type) {
                (Some(Scalar::Bytes(bytes)), DataType::String) => simdutf8::basic::from_utf8(bytes).is_ok(),
                (value, _) => value.is_some(),
            };
            if !valid {
                return false;
            }
        }
        rest.is_empty()
    }
}

fn encode_fixed(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(VALUE);
    out.extend_from_slice(bytes);
}

/// Text with an end mark that sorts before every continuation: 0 becomes `0 255`, the end is `0 0`.
fn encode_marked(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// Bits whose unsigned order is the order of the numbers; -0 and 0 are one.
fn ordered_bits(value: f64) -> u64 {
    let bits = if value == 0.0 { 0 } else { value.to_bits() };
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn float_from(bits: u64) -> f64 {
    f64::from_bits(if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits })
}

/// Reads the next value off `rest`; marked text is unmarked into `text`.
fn next_value<'k: 'v, 'v>(
    data_type: DataType,
    last: bool,
    rest: &mut &'k [u8],
    text: &'v mut Vec<u8>,
) -> Option<Scalar<'v>> {
    let (tag, after) = rest.split_first()?;
    *rest = after;
    match *tag {
        NULL => return Some(Scalar::Null),
        VALUE => {}
        _ => return None,
    }
    Some(match data_type {
        DataType::Bool => Scalar::Bool(fixed::<1>(rest)?[0] == 1),
        DataType::Int64 | DataType::Timestamp => Scalar::Int64(i64::from_be_bytes(fixed(rest)?) ^ i64::MIN),
        DataType::Float64 => Scalar::Float64(float_from(u64::from_be_bytes(fixed(rest)?))),
        DataType::Decimal { .. } => Scalar::Decimal(i128::from_be_bytes(fixed(rest)?) ^ i128::MIN),
        DataType::String | DataType::Binary | DataType::Scalar if last => Scalar::Bytes(std::mem::take(rest)),
        DataType::String | DataType::Binary | DataType::Scalar => {
            text.clear();
            decode_marked(rest, text)?;
            Scalar::Bytes(text)
        }
    })
}

fn fixed<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*head)
}

fn decode_marked(rest: &mut &[u8], text: &mut Vec<u8>) -> Option<()> {
    loop {
        let zero = memchr::memchr(0, rest)?;
        text.extend_from_slice(&rest[..zero]);
        let mark = *rest.get(zero + 1)?;
        *rest = &rest[zero + 2..];
        match mark {
            0 => return Some(()),
            0xff => text.push(0),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Row = (Option<String>, Option<i64>, Option<f64>, Option<String>);

    const TYPES: [DataType; 4] = [DataType::String, DataType::Int64, DataType::Float64, DataType::String];

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let text = || proptest::option::of("[a\u{0}\u{1}\u{ff}]{0,4}");
        let float = proptest::option::of(any::<f64>().prop_filter("finite", |value| value.is_finite()));
        proptest::collection::vec((text(), proptest::option::of(any::<i64>()), float, text()), 1..20)
    }

    fn columns(rows: &[Row]) -> Vec<Column> {
        let mut columns: Vec<Column> = TYPES.into_iter().map(Column::new).collect();
        for (first, number, float, second) in rows {
            let text = |text: &'_ Option<String>| text.clone().map(String::into_bytes);
            let (first, second) = (text(first), text(second));
            columns[0].push(first.as_deref().map_or(Scalar::Null, Scalar::Bytes));
            columns[1].push(number.map_or(Scalar::Null, Scalar::Int64));
            columns[2].push(float.map_or(Scalar::Null, |value| Scalar::Float64(value + 0.0)));
            columns[3].push(second.as_deref().map_or(Scalar::Null, Scalar::Bytes));
        }
        columns
    }

    proptest! {
        #[test]
        fn keys_come_back_and_sort_like_their_values(rows in rows()) {
            let columns = columns(&rows);
            let codec = KeyCodec::new(TYPES.to_vec());
            let references: Vec<&Column> = columns.iter().collect();
            let mut decoded: Vec<Column> = TYPES.into_iter().map(Column::new).collect();
            let mut keys = Vec::new();
            for row in 0..rows.len() {
                let mut key = Vec::new();
                let any_null = codec.encode(&references, row, &mut key);
                prop_assert_eq!(any_null, columns.iter().any(|column| !column.is_valid(row)));
                prop_assert!(codec.is_valid(&key));
                codec.decode(&key, &mut decoded);
                keys.push(key);
            }
            prop_assert_eq!(&decoded, &columns);
            let plain = |row: &Row| (row.0.clone(), row.1, row.2.map(|value| ordered_bits(value + 0.0)), row.3.clone());
            for (left, left_key) in rows.iter().zip(&keys) {
                for (right, right_key) in rows.iter().zip(&keys) {
                    prop_assert_eq!(left_key.cmp(right_key), plain(left).cmp(&plain(right)));
                }
            }
        }

        #[test]
        fn damaged_keys_are_noticed_not_believed(key in any::<Vec<u8>>()) {
            let codec = KeyCodec::new(TYPES.to_vec());
            if codec.is_valid(&key) {
                let mut columns: Vec<Column> = TYPES.into_iter().map(Column::new).collect();
                codec.decode(&key, &mut columns);
            }
        }
    }
}
