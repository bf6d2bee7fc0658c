//! The bytes of a saved join: its clock, its rows by place, a row's values.
//!
//! `rows.rs` writes them, `mod.rs` reads them back when a join is restored. Invariant: what does not fit the type of
//! its column is an error, never a wrong value.

use super::firing::Cursor;
use super::rows::{RowId, place_of};
use crate::batch::{Column, DataType, Scalar};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use crate::saving::{Loading, PARTS};

/// Version of the saved bytes.
pub const VERSION: u8 = 2;
/// Bytes of a row with its place and length, at least.
const ROW_BYTES_MIN: usize = 36;

/// The part of what is saved that a row is in: chunks go round.
pub const fn part_of(id: RowId) -> usize {
    place_of(id).0 as usize % PARTS
}

/// Reads the clock, and how far the rows at it have left.
pub fn read_clock(saved: &mut Reader<'_>) -> Result<(i64, Option<Cursor>)> {
    let version = saved.u8()?;
    if !(1..=VERSION).contains(&version) {
        let message = format!("the saved join has version {version}, this program reads {VERSION}");
        return Err(Error::state(format!("{message}; run it with the program that saved it, or newer")));
    }
    let clock_ms = saved.i64()?;
    // The first version knew none.
    let rows = if version == 1 { 0 } else { saved.varint()? };
    let cursor = if rows == 0 { None } else { Some(Cursor { time_ms: saved.i64()?, rows }) };
    Ok((clock_ms, cursor))
}

/// The rows of one side as they are saved whole, put together from parts and changes, and the number of their places.
pub fn gather(saved: &mut Loading<'_>) -> Result<(u64, Vec<u8>)> {
    let (pieces, based) = saved.pieces();
    // By birth, place, and piece: the row, or that it was freed.
    let mut found: Vec<(u64, RowId, Option<&[u8]>)> = Vec::new();
    let (mut newest, mut alive) = (0, 0);
    for piece in pieces.iter_mut() {
        (newest, alive) = (piece.reader.varint()?, piece.reader.varint()?);
        for _ in 0..piece.reader.count(ROW_BYTES_MIN)? {
            let (id, row) = (piece.reader.varint()?, piece.reader.bytes()?);
            if piece.counts_for(part_of(id), based) {
                found.push((newest, id, Some(row)));
            }
        }
        for _ in 0..piece.reader.count(1)? {
            let id = piece.reader.varint()?;
            if piece.counts_for(part_of(id), based) {
                found.push((newest, id, None));
            }
        }
    }
    found.retain(|(born, ..)| *born == newest);
    // Of one place the later pieces stay behind.
    found.sort_by_key(|(_, id, _)| *id);
    let last_of = |(at, (_, id, _)): &(usize, &(u64, RowId, _))| found.get(at + 1).is_none_or(|next| next.1 != *id);
    let rows: Vec<&[u8]> = found.iter().enumerate().filter(last_of).filter_map(|(_, (.., row))| *row).collect();
    if rows.len() as u64 != alive {
        return Err(Error::state("saved state lacks rows of a join; a part or changes are missing"));
    }
    let mut whole = Vec::new();
    whole.put_varint(alive);
    rows.iter().for_each(|row| whole.extend_from_slice(row));
    Ok((newest, whole))
}

const NULL: u8 = 0;
const VALUE: u8 = 1;

/// Appends `value`.
pub fn encode_value(value: Scalar<'_>, out: &mut Vec<u8>) {
    out.put_u8(if value == Scalar::Null { NULL } else { VALUE });
    match value {
        Scalar::Null => {}
        Scalar::Bool(value) => out.put_u8(u8::from(value)),
        Scalar::Int64(value) => out.put_i64(value),
        Scalar::Float64(value) => out.put_u64(value.to_bits()),
        Scalar::Decimal(value) => out.put_i128(value),
        Scalar::Bytes(value) => out.put_bytes(value),
    }
}

/// Reads the next value into `column`.
pub fn decode_value(saved: &mut Reader<'_>, column: &mut Column) -> Result<()> {
    let damaged = |what: &str| Error::state(format!("a saved row of a join has {what}; it was overwritten"));
    let value = match (saved.u8()?, column.data_type) {
        (NULL, _) => Scalar::Null,
        (VALUE, DataType::Bool) => Scalar::Bool(saved.u8()? != 0),
        (VALUE, DataType::Int64 | DataType::Timestamp) => Scalar::Int64(saved.i64()?),
        (VALUE, DataType::Float64) => Scalar::Float64(f64::from_bits(saved.u64()?)),
        (VALUE, DataType::Decimal { .. }) => Scalar::Decimal(saved.i128()?),
        (VALUE, DataType::Binary | DataType::Scalar) => Scalar::Bytes(saved.bytes()?),
        (VALUE, DataType::String) => {
            let text = saved.bytes()?;
            if simdutf8::basic::from_utf8(text).is_err() {
                return Err(damaged("a text that is not UTF-8"));
            }
            Scalar::Bytes(text)
        }
        (tag, _) => return Err(damaged(&format!("a value of the unknown kind {tag}"))),
    };
    column.push(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_damage_is_an_error() {
        let values = [
            (DataType::Bool, Scalar::Bool(true)),
            (DataType::Int64, Scalar::Int64(-5)),
            (DataType::Timestamp, Scalar::Int64(5)),
            (DataType::Float64, Scalar::Float64(-0.0)),
            (DataType::Decimal { precision: 38, scale: 2 }, Scalar::Decimal(i128::MIN)),
            (DataType::String, Scalar::Bytes("é".as_bytes())),
            (DataType::Binary, Scalar::Bytes(&[0xff])),
            (DataType::String, Scalar::Null),
        ];
        for (data_type, value) in values {
            let mut saved = Vec::new();
            encode_value(value, &mut saved);
            let mut column = Column::new(data_type);
            let mut reader = Reader::new(&saved);
            decode_value(&mut reader, &mut column).unwrap();
            reader.finish().unwrap();
            assert_eq!(column.get(0), value);
            for cut in 0..saved.len() {
                assert!(decode_value(&mut Reader::new(&saved[..cut]), &mut column).is_err());
            }
        }
        let mut text = Column::new(DataType::String);
        assert!(decode_value(&mut Reader::new(&[VALUE, 1, 0xff]), &mut text).is_err());
        assert!(decode_value(&mut Reader::new(&[7]), &mut text).is_err());
    }
}
