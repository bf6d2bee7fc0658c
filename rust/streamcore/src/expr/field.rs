//! Names of things in a record: field paths (`payload.page_id`) and record parts (`_key`).
//!
//! `parse` makes them, `by`, `dedupe` and `event_time` are read as one. Invariant: a path's text is
//! canonical, so equal paths have equal text: a segment stands in backquotes only if it must.

use super::lexer::{is_name_character, is_name_start};
use super::parse;
use crate::raw::Part;
use std::fmt::{self, Write};

/// A name in an expression.
///
/// ```
/// use streamcore::expr::{Field, Part};
///
/// assert_eq!(Field::parse("payload.`page_id`"), Ok(Field::Path("payload.page_id".into())));
/// assert_eq!(Field::parse("_headers['trace-id']"), Ok(Field::Part(Part::Header("trace-id".into()))));
/// assert!(Field::parse("payload.page-id").is_err()); // would be a subtraction: payload.`page-id`
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// A field of the record's value: segments joined by points. A segment that is not a plain word,
    /// or a first segment that begins with `_` or is a keyword, stands in backquotes.
    Path(String),
    /// A part of the record outside its value.
    Part(Part),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Header(name) = self {
            f.write_str("_headers[")?;
            write_string(f, name)?;
            return f.write_char(']');
        }
        let name = PARTS.iter().find(|(_, part)| part == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// The parts that are a name alone.
pub(super) const PARTS: [(&str, Part); 6] = [
    ("_key", Part::Key),
    ("_value", Part::Value),
    ("_topic", Part::Topic),
    ("_partition", Part::Partition),
    ("_offset", Part::Offset),
    ("_timestamp", Part::Timestamp),
];

/// Words that a path's first segment can only be in backquotes.
pub(super) const KEYWORDS: [&str; 8] = ["and", "or", "not", "in", "is", "true", "false", "null"];

impl Field {
    /// Reads a name alone, as in `by`, `dedupe` and `event_time`. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::field(text).map_err(|mistake| match mistake.hint {
            Some(hint) => format!("{}; {hint}", mistake.message),
            None => mistake.message,
        })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Part(part) => write!(f, "{part}"),
        }
    }
}

/// The segments of a path: `payload.page_id` is `["payload", "page_id"]`.
///
/// Text that no expression would accept is still split at its points, so a key of `[source.schema]`
/// need not be in backquotes.
///
/// ```
/// use streamcore::expr::split_path;
///
/// assert_eq!(split_path("payload.page_id"), ["payload", "page_id"]);
/// assert_eq!(split_path("headers.`x.y`.page-id"), ["headers", "x.y", "page-id"]);
/// ```
#[must_use]
pub fn split_path(path: &str) -> Vec<String> {
    let mut segments = Vec::new();
    let mut segment = String::new();
    let mut characters = path.chars().peekable();
    let mut quoted = false;
    while let Some(character) = characters.next() {
        match character {
            '`' if quoted && characters.next_if_eq(&'`').is_some() => segment.push('`'),
            '`' if quoted => quoted = false,
            '`' if segment.is_empty() => quoted = true,
            '.' if !quoted => segments.push(std::mem::take(&mut segment)),
            other => segment.push(other),
        }
    }
    segments.push(segment);
    segments
}

/// What a column of `field` alone is called: its last segment; a record part without its `_`, a header by its name.
///
/// ```
/// use streamcore::expr::{Field, last_segment};
///
/// assert_eq!(last_segment(&Field::parse("payload.page_id").unwrap()), "page_id");
/// assert_eq!(last_segment(&Field::parse("_key").unwrap()), "key");
/// ```
#[must_use]
pub fn last_segment(field: &Field) -> String {
    match field {
        Field::Path(path) => split_path(path).pop().unwrap_or_default(),
        Field::Part(Part::Header(name)) => name.clone(),
        Field::Part(part) => part.to_string().trim_start_matches('_').to_owned(),
    }
}

/// The canonical path of `segments`: the inverse of [`split_path`].
#[must_use]
pub fn join_path<S: AsRef<str>>(segments: &[S]) -> String {
    let mut path = String::new();
    for (place, segment) in segments.iter().enumerate() {
        let segment = segment.as_ref();
        if place > 0 {
            path.push('.');
        }
        // In any case: `Or` is taken for a misspelt `or`.
        let is_keyword = || KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(segment));
        let reserved = place == 0 && (segment.starts_with('_') || is_keyword());
        if !reserved && segment.starts_with(is_name_start) && segment.chars().all(is_name_character) {
            path.push_str(segment);
        } else {
            path.push('`');
            path.push_str(&segment.replace('`', "``"));
            path.push('`');
        }
    }
    path
}

/// Writes `text` as a string literal.
pub(super) fn write_string(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('\'')?;
    for character in text.chars() {
        match character {
            '\'' | '\\' => write!(f, "\\{character}")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            control if control.is_control() => write!(f, "\\u{:04x}", u32::from(control))?,
            plain => f.write_char(plain)?,
        }
    }
    f.write_char('\'')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_segment_is_quoted_only_if_it_must_be() {
        assert_eq!(join_path(&["payload", "page_id"]), "payload.page_id");
        assert_eq!(join_path(&["_id", "_id", "in", "a b"]), "`_id`._id.in.`a b`");
        assert_eq!(join_path(&["in", "1", "a`b"]), "`in`.`1`.`a``b`");
    }

    #[test]
    fn every_part_reads_back() {
        let header = Part::Header("it's".into());
        for part in PARTS.map(|(_, part)| part).into_iter().chain([header]) {
            let field = Field::Part(part);
            assert_eq!(Field::parse(&field.to_string()), Ok(field));
        }
    }

    #[test]
    fn what_is_no_field_says_why() {
        let why = |text: &str| Field::parse(text).unwrap_err();
        assert_eq!(
            why("_kee"),
            "there is no record part `_kee`; did you mean `_key`? A field of that name is written `_kee` in backquotes"
        );
        assert_eq!(
            why("a-b"),
            "expected the end of the field's name, found `-`; a name with other characters than letters, digits and \
             `_` is written in backquotes"
        );
        assert_eq!(why(""), "expected a field, found the end");
        assert_eq!(why("_headers"), "expected `[` after `_headers`, found the end; write _headers['name']");
        assert!(why("in").starts_with("`in` is a keyword"));
    }

    proptest! {
        #[test]
        fn join_and_split_are_inverse(segments in prop::collection::vec("[ -~é]{1,6}", 1..4)) {
            let path = join_path(&segments);
            prop_assert_eq!(split_path(&path), segments);
            prop_assert_eq!(Field::parse(&path), Ok(Field::Path(path.clone())));
        }
    }
}
