//! The fields of the tests: one column of each type and another two to combine.

use streamcore::batch::{Column, DataType, Scalar};
use streamcore::expr::{Field, Part, Scope, did_you_mean};

/// Name, type and place of every declared field.
pub const FIELDS: [(&str, DataType); 11] = [
    ("i", DataType::Int64),
    ("j", DataType::Int64),
    ("x", DataType::Float64),
    ("b", DataType::Bool),
    ("s", DataType::String),
    ("payload.page_id", DataType::String),
    ("d", DataType::Decimal { precision: 10, scale: 2 }),
    ("e", DataType::Decimal { precision: 8, scale: 3 }),
    ("w", DataType::Timestamp),
    ("any", DataType::Scalar),
    ("raw", DataType::Binary),
];

/// Knows [`FIELDS`], takes `_key` for `raw`, and notes what is suggested for `open`.
#[derive(Debug, Default)]
pub struct Fields {
    pub hints: Vec<Option<DataType>>,
}

impl Scope for Fields {
    fn resolve(&mut self, field: &Field, hint: Option<DataType>) -> Result<(usize, DataType), String> {
        let name = match field {
            Field::Part(Part::Key) => "raw".to_owned(),
            other => other.to_string(),
        };
        if name == "open" {
            self.hints.push(hint);
            return Ok((0, hint.unwrap_or(DataType::Scalar)));
        }
        let found = FIELDS.iter().position(|(known, _)| *known == name);
        found.map(|index| (index, FIELDS[index].1)).ok_or_else(|| {
            let meant = did_you_mean(&name, FIELDS.iter().map(|(known, _)| *known));
            let meant = meant.map_or(String::new(), |meant| format!("; did you mean `{meant}`?"));
            format!("there is no field `{name}`{meant}")
        })
    }
}

/// A column of the given values.
pub fn column(data_type: DataType, values: &[Scalar<'_>]) -> Column {
    let mut column = Column::new(data_type);
    for value in values {
        column.push(*value);
    }
    column
}
