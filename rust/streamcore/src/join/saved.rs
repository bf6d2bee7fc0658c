//! The bytes of a saved row's values.
//!
//! `rows.rs` writes them, `mod.rs` reads them back when a join is restored. Invariant: what does not fit the type of
//! its column is an error, never a wrong value.

use crate::batch::{Column, DataType, Scalar};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};

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
