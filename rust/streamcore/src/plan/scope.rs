//! The names an expression can use at one point of the pipeline, and the types they have.
//!
//! `plan/mod.rs` compiles every expression twice: the first pass gathers which fields are used and
//! what their surroundings suggest, the second resolves them to columns with fixed types.
//! Invariant: in the second pass no new column appears.

use crate::batch::DataType;
use crate::decode::FieldPlan;
use crate::expr::{Field, Scope, did_you_mean, join_path, split_path};
use crate::raw::Part;
use crate::results::OutputType;
use std::collections::BTreeMap;

/// A field whose type the result depends on and nobody declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undeclared {
    /// The input it is of; none for the pipeline's own.
    pub input: Option<String>,
    /// The field.
    pub path: String,
    /// Where it is used, as a path into the pipeline file.
    pub used_at: String,
    /// Whether that use takes nothing but a number.
    pub takes_number: bool,
}

/// What the first pass learned about a field.
#[derive(Debug, Clone, Default)]
struct Uses {
    /// The first type suggested by a comparison or the like.
    suggested: Option<DataType>,
    /// Used where any scalar will do.
    any_scalar: bool,
    /// First use where the type shows in the result.
    shows_at: Option<String>,
    /// Whether that use takes nothing but a number.
    takes_number: bool,
}

/// The columns of the last `select` or `window`.
#[derive(Debug, Clone)]
struct Visible {
    /// Which of the two.
    after: &'static str,
    columns: Vec<VisibleColumn>,
}

/// A column of a `select` or `window`.
#[derive(Debug, Clone)]
pub struct VisibleColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub output: OutputType,
    /// For one of lists, the column of the window's rows that holds them.
    pub lists: Option<usize>,
}

/// Columns visible to expressions.
#[derive(Debug, Clone)]
pub struct Columns {
    /// The input that the fields are of; none for the pipeline's own.
    input: Option<String>,
    declared: BTreeMap<String, DataType>,
    /// Values have no fields (`format = "raw"`).
    opaque: bool,
    uses: BTreeMap<String, Uses>,
    /// Fields, the first columns.
    pub fields: Vec<FieldPlan>,
    /// Record parts, after them.
    pub parts: Vec<(Part, DataType)>,
    /// After a `select` or `window`: its columns hide the record.
    visible: Option<Visible>,
    /// Where the expression being compiled stands.
    pub used_at: String,
    second_pass: bool,
}

impl Columns {
    /// No columns yet; `declared` are the types of `[source.schema]`.
    pub fn new(declared: BTreeMap<String, DataType>, opaque: bool, input: Option<&str>) -> Self {
        Self {
            input: input.map(str::to_owned),
            declared,
            opaque,
            uses: BTreeMap::new(),
            fields: Vec::new(),
            parts: Vec::new(),
            visible: None,
            used_at: String::new(),
            second_pass: false,
        }
    }

    /// Ends the first pass: every field gets its type.
    ///
    /// Undeclared ones count as `placeholder` until they are declared or inferred.
    pub fn settle(&mut self, placeholder: DataType) -> Vec<Undeclared> {
        let mut undeclared = Vec::new();
        for (path, uses) in &self.uses {
            let data_type = match (self.declared.get(path), uses.suggested, &uses.shows_at) {
                (Some(data_type), ..) => *data_type,
                (None, Some(data_type), _) => data_type,
                (None, None, Some(used_at)) => {
                    undeclared.push(Undeclared {
                        input: self.input.clone(),
                        path: path.clone(),
                        used_at: used_at.clone(),
                        takes_number: uses.takes_number,
                    });
                    placeholder
                }
                (None, None, None) => DataType::Scalar,
            };
            self.fields.push(FieldPlan { path: path.clone(), segments: split_path(path), data_type });
        }
        self.visible = None;
        self.second_pass = true;
        undeclared
    }

    /// First pass: what shows in the result at `used_at` must be a number there.
    pub fn take_numbers(&mut self, used_at: &str) {
        for uses in self.uses.values_mut().filter(|uses| uses.shows_at.as_deref() == Some(used_at)) {
            uses.takes_number = true;
        }
    }

    /// The fields whose types were declared, with their names as columns.
    pub fn declared(&self) -> Vec<(Field, String)> {
        let field = |path: &String| Field::parse(path).ok().map(|field| (field, path.clone()));
        self.declared.keys().filter_map(field).collect()
    }

    /// Whether the type of the column `text` is no guess.
    pub fn is_settled(&self, text: &str) -> bool {
        match Field::parse(text) {
            Ok(Field::Path(path)) if self.visible.is_none() => {
                let suggested = || self.uses.get(&path).is_some_and(|uses| uses.suggested.is_some());
                self.declared.contains_key(&path) || suggested()
            }
            _ => true,
        }
    }

    /// From here on only these columns are visible, `after` a step of that verb.
    pub fn show(&mut self, after: &'static str, columns: Vec<VisibleColumn>) {
        self.visible = Some(Visible { after, columns });
    }

    /// The column that a `select` or `window` made, if `text` is nothing but its name.
    pub fn visible(&self, text: &str) -> Option<(usize, &VisibleColumn)> {
        let field = Field::parse(text).ok()?.to_string();
        let columns = &self.visible.as_ref()?.columns;
        columns.iter().enumerate().find(|(_, column)| join_path(&[&column.name]) == field)
    }

    /// The columns of the last `select` or `window`.
    pub fn shown(&self) -> Option<&[VisibleColumn]> {
        self.visible.as_ref().map(|visible| &visible.columns[..])
    }

    fn part(&mut self, part: &Part) -> (usize, DataType) {
        let data_type = self.declared.get(&part.to_string()).copied().unwrap_or(match part {
            Part::Key | Part::Topic | Part::Header(_) => DataType::String,
            Part::Value => DataType::Binary,
            Part::Partition | Part::Offset => DataType::Int64,
            Part::Timestamp => DataType::Timestamp,
        });
        let place = self.parts.iter().position(|(known, _)| known == part).unwrap_or_else(|| {
            self.parts.push((part.clone(), data_type));
            self.parts.len() - 1
        });
        (self.fields.len() + place, data_type)
    }

    /// First pass: notes the use; the type is only a guess.
    fn note(&mut self, path: &str, hint: Option<DataType>) -> (usize, DataType) {
        let uses = self.uses.entry(path.to_owned()).or_default();
        match hint {
            Some(DataType::Scalar) => uses.any_scalar = true,
            Some(data_type) => uses.suggested = uses.suggested.or(Some(data_type)),
            None => {
                uses.shows_at.get_or_insert_with(|| self.used_at.clone());
            }
        }
        (0, self.declared.get(path).copied().or(hint).unwrap_or(DataType::String))
    }
}

impl Visible {
    fn resolve(&self, field: &Field) -> Result<(usize, DataType), String> {
        let name = field.to_string();
        let found = self.columns.iter().enumerate().find(|(_, column)| join_path(&[&column.name]) == name);
        let Some((place, column)) = found else {
            let names = self.columns.iter().map(|column| column.name.as_str());
            let near = did_you_mean(&name, names).map(|near| format!("; did you mean {near}?"));
            let why = if self.after == "join" { ": it has the key, and the fields that schemas declare" } else { "" };
            return Err(format!("after `{}` there is no column {name}{why}{}", self.after, near.unwrap_or_default()));
        };
        match column.output {
            OutputType::Value(data_type) => Ok((place, data_type)),
            lists => Err(format!("{name} is a {lists}: `select` can pass it on, and nothing can be computed of it")),
        }
    }
}

impl Scope for Columns {
    fn resolve(&mut self, field: &Field, hint: Option<DataType>) -> Result<(usize, DataType), String> {
        if let Some(visible) = &self.visible {
            return visible.resolve(field);
        }
        match field {
            Field::Part(part) => Ok(self.part(part)),
            Field::Path(path) if self.opaque => {
                Err(format!("{path} is a field of the value, and with format = \"raw\" values have no fields"))
            }
            Field::Path(path) if self.second_pass => {
                let place = self.fields.iter().position(|field| field.path == *path);
                let place = place.ok_or_else(|| format!("{path} was not seen in the first pass"))?;
                Ok((place, self.fields[place].data_type))
            }
            Field::Path(path) => Ok(self.note(path, hint)),
        }
    }
}
