//! Finds the wanted fields of a JSON record while validating the whole of it.
//!
//! `decode/mod.rs` calls [`Projection::locate`] for each record and turns the located values into
//! columns (`decode/convert.rs`) only once the record as a whole is good. Invariant: a record that
//! `locate` accepts is valid JSON to its last byte.

pub mod alike;
pub mod kernel;
pub mod layout;
pub mod layouts;
pub mod marks;
pub mod scan;
pub mod text;
pub mod tree;

use crate::error::RejectKind;
use scan::{Fault, Kind, Scan, Scanner, Value};
use text::unescape;

/// Most fields a pipeline can want from one object; `plan.rs` refuses more.
pub const CHILDREN_MAX: usize = 512;

/// Where a wanted field was found.
pub type Located = Option<Value>;

/// The wanted fields as a tree of names.
#[derive(Debug, Clone)]
pub struct Projection {
    nodes: Vec<Node>,
    fields: usize,
    depth_max: u32,
}

#[derive(Debug, Clone, Default)]
struct Node {
    /// Name and number of each child node.
    children: Vec<(Vec<u8>, usize)>,
    /// The wanted field that ends here.
    field: Option<usize>,
}

impl Projection {
    /// Wants the fields at `paths`; a field's number is its place in the list.
    #[must_use]
    pub fn new(paths: &[Vec<String>], depth_max: u32) -> Self {
        let mut nodes = vec![Node::default()];
        for (field, path) in paths.iter().enumerate() {
            let mut at = 0;
            for name in path {
                let known = nodes[at].children.iter().find(|(known, _)| known == name.as_bytes());
                at = if let Some((_, child)) = known {
                    *child
                } else {
                    nodes.push(Node::default());
                    let child = nodes.len() - 1;
                    nodes[at].children.push((name.as_bytes().to_vec(), child));
                    child
                };
            }
            nodes[at].field = Some(field);
        }
        Self { nodes, fields: paths.len(), depth_max }
    }

    /// Number of wanted fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields
    }

    /// True when no field is wanted; records are validated all the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields == 0
    }

    /// Validates `record` (valid UTF-8) and notes where each wanted field is in `found`
    /// (one entry a field, all `None` on entry).
    pub fn locate(&self, record: &[u8], found: &mut [Located]) -> Scan<()> {
        let mut scanner = Scanner::new(record, self.depth_max);
        if scanner.peek_token()? != b'{' {
            scanner.skip_value()?;
            scanner.finish()?;
            return Err(Fault { kind: RejectKind::TypeMismatch, at: 0, message: "a record must be a JSON object" });
        }
        self.object(0, record, &mut scanner, found)?;
        scanner.finish()
    }

    /// Walks the object the scanner stands on. Recursion is bounded by the longest wanted path.
    fn object(&self, node: usize, record: &[u8], scanner: &mut Scanner<'_>, found: &mut [Located]) -> Scan<()> {
        scanner.known_open()?;
        let mut first = true;
        let mut entered = [0_u64; CHILDREN_MAX / 64];
        while let Some(key) = scanner.next_key(first)? {
            first = false;
            let Some((place, child)) = self.child(node, record, key) else {
                scanner.skip_value()?;
                continue;
            };
            let duplicate = Fault {
                kind: RejectKind::DupField,
                at: key.start as usize,
                message: "a field the pipeline uses occurs twice",
            };
            let (word, bit) = (&mut entered[place / 64], 1 << (place % 64));
            if *word & bit != 0 {
                return Err(duplicate);
            }
            *word |= bit;
            self.value(child, record, scanner, found)?;
        }
        Ok(())
    }

    fn value(&self, node: usize, record: &[u8], scanner: &mut Scanner<'_>, found: &mut [Located]) -> Scan<()> {
        let wanted = &self.nodes[node];
        if let Some(field) = wanted.field {
            found[field] = Some(scanner.skip_value()?);
            return Ok(());
        }
        if scanner.peek_token()? == b'{' {
            return self.object(node, record, scanner, found);
        }
        let value = scanner.skip_value()?;
        if value.kind == Kind::Null {
            return Ok(());
        }
        Err(Fault {
            kind: RejectKind::TypeMismatch,
            at: value.start as usize,
            message: "a field the pipeline looks into is not an object",
        })
    }

    /// Place among its siblings and number of the child of `node` named `key`.
    #[inline]
    fn child(&self, node: usize, record: &[u8], key: Value) -> Option<(usize, usize)> {
        let name = &record[key.start as usize..key.end as usize];
        let matching = |name: &[u8]| {
            let children = &self.nodes[node].children;
            children.iter().position(|(known, _)| known == name).map(|place| (place, children[place].1))
        };
        if key.kind == Kind::Text {
            return matching(name);
        }
        let mut unescaped = Vec::with_capacity(name.len());
        unescape(name, &mut unescaped);
        matching(&unescaped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locate<'a>(record: &'a str, paths: &[&str]) -> Scan<Vec<Option<&'a str>>> {
        let paths: Vec<Vec<String>> = paths.iter().map(|path| path.split('.').map(str::to_owned).collect()).collect();
        let mut found = vec![None; paths.len()];
        Projection::new(&paths, 64).locate(record.as_bytes(), &mut found)?;
        Ok(found
            .into_iter()
            .map(|value| value.map(|value| &record[value.start as usize..value.end as usize]))
            .collect())
    }

    #[test]
    fn wanted_fields_are_found_in_any_order() {
        let record = r#"{"z":[1,{"a":2}], "payload" : {"x":{}, "page_id":"home"}, "a":-1.5}"#;
        assert_eq!(locate(record, &["a", "payload.page_id", "none"]), Ok(vec![Some("-1.5"), Some("home"), None]));
    }

    #[test]
    fn an_escaped_name_is_the_same_name() {
        assert_eq!(locate(r#"{"\u0061":1}"#, &["a"]), Ok(vec![Some("1")]));
    }

    #[test]
    fn a_wanted_field_may_not_repeat_but_others_may() {
        let kind = |record| locate(record, &["a.b", "c"]).map_err(|fault| fault.kind);
        assert_eq!(kind(r#"{"c":1,"c":1}"#), Err(RejectKind::DupField));
        assert_eq!(kind(r#"{"a":{},"a":{}}"#), Err(RejectKind::DupField));
        assert_eq!(kind(r#"{"x":1,"x":1,"c":2}"#), Ok(vec![None, Some("2")]));
    }

    #[test]
    fn the_whole_record_is_validated() {
        let kind = |record| locate(record, &["a"]).map_err(|fault| fault.kind);
        assert_eq!(kind(r#"{"a":1,"b":[1,]}"#), Err(RejectKind::DecodeSyntax));
        assert_eq!(kind(r#"{"a":1} x"#), Err(RejectKind::DecodeSyntax));
        assert_eq!(kind("[1]"), Err(RejectKind::TypeMismatch));
        assert_eq!(kind("[1"), Err(RejectKind::DecodeSyntax));
    }

    #[test]
    fn null_above_a_wanted_field_is_null_and_a_scalar_is_not() {
        assert_eq!(locate(r#"{"a":null}"#, &["a.b"]), Ok(vec![None]));
        assert_eq!(locate(r#"{"a":3}"#, &["a.b"]).map_err(|fault| fault.kind), Err(RejectKind::TypeMismatch));
    }
}
