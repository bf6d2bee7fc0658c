//! The one public error, the mistakes found in a pipeline description, and rejected records.
//!
//! Nothing comes before this file; every other file uses it. A bad *record* is never an [`Error`]:
//! it is a [`Reject`], a piece of data that leaves the engine as a dead letter.

use std::fmt;

/// Whose fault an [`Error`] is, and so which exception and exit code it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The pipeline description is wrong; [`Error::problems`] lists every mistake.
    Config,
    /// Saved state cannot be used: corrupt, of another job, or of a future version.
    State,
    /// A bound was reached (batch bytes, ids of a lane).
    Limit,
    /// The state has reached its bound (`limits.max_keys`, `limits.max_state_bytes`).
    Full,
    /// An exact result does not fit its column.
    Overflow,
    /// The conservation ledger does not balance, or another internal promise is broken.
    Internal,
}

/// The part of an expression a [`Problem`] points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caret {
    /// The whole expression.
    pub text: String,
    /// First byte of the part in question.
    pub start: usize,
    /// One past its last byte; equal to `start` when something is missing there.
    pub end: usize,
}

impl fmt::Display for Caret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = |byte: usize| {
            let byte = byte.min(self.text.len());
            let prefix = self.text.as_bytes().get(..byte).unwrap_or_default();
            String::from_utf8_lossy(prefix).chars().count()
        };
        let (start, end) = (column(self.start), column(self.end));
        let marks = "^".repeat(end.saturating_sub(start).max(1));
        write!(f, "  {}\n  {}{marks}", self.text, " ".repeat(start))
    }
}

/// One mistake in a pipeline description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, as a path into the pipeline file: `steps[1].aggregate.views`.
    pub path: String,
    /// What is wrong, in one sentence without a final stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The part of the expression, when the mistake is inside one.
    pub caret: Option<Caret>,
}

impl Problem {
    /// A problem at `path`, with no hint and no caret.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), hint: None, caret: None }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the part of the expression in question.
    #[must_use]
    pub fn caret(mut self, text: &str, start: usize, end: usize) -> Self {
        self.caret = Some(Caret { text: text.to_owned(), start, end });
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)?;
        if let Some(caret) = &self.caret {
            write!(f, "\n{caret}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// Why the engine cannot go on. `Display` says what happened, where, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// Whose fault it is.
    pub kind: ErrorKind,
    /// What happened.
    pub message: String,
    /// Every mistake of a wrong pipeline description; empty for other kinds.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for problem in &self.problems {
            write!(f, "\n{problem}")?;
        }
        Ok(())
    }
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), problems: Vec::new() }
    }

    /// A wrong pipeline description, with every mistake found in it.
    #[must_use]
    pub fn config(problems: Vec<Problem>) -> Self {
        let count = problems.len();
        let noun = if count == 1 { "mistake" } else { "mistakes" };
        Self { kind: ErrorKind::Config, message: format!("the pipeline has {count} {noun}"), problems }
    }

    /// Saved state that cannot be used.
    pub fn state(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::State, message)
    }

    /// Adds where it happened, on the way up.
    #[must_use]
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

/// The engine's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a record was refused. The names are part of the public interface (header `dlq.reason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectKind {
    /// Not a JSON document.
    DecodeSyntax,
    /// Invalid UTF-8, or a lone surrogate escape.
    DecodeUtf8,
    /// Nested deeper than the limit.
    DepthLimit,
    /// Larger than a size limit.
    SizeLimit,
    /// A number that its column cannot hold exactly.
    NumberRange,
    /// A field the pipeline needs is absent or null.
    MissingField,
    /// A value of another type than its column.
    TypeMismatch,
    /// A mapped field occurs twice.
    DupField,
    /// An event time that cannot be read.
    BadTimestamp,
    /// A null key where the output needs one.
    KeyNull,
    /// A group key over its length limit.
    KeyTooLong,
    /// The record key is not the field that `keyed_by` names.
    KeyMismatch,
    /// A function of the user failed for this row.
    FunctionFailed,
    /// It would add a key to the state, for which there is no room (`limits.on_full = "shed"`).
    StateFull,
    /// A panic while decoding this record: a bug of ours, isolated to it.
    InternalPanic,
}

impl RejectKind {
    /// The name in `dlq.reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DecodeSyntax => "DECODE_SYNTAX",
            Self::DecodeUtf8 => "DECODE_UTF8",
            Self::DepthLimit => "DEPTH_LIMIT",
            Self::SizeLimit => "SIZE_LIMIT",
            Self::NumberRange => "NUMBER_RANGE",
            Self::MissingField => "MISSING_FIELD",
            Self::TypeMismatch => "TYPE_MISMATCH",
            Self::DupField => "DUP_FIELD",
            Self::BadTimestamp => "BAD_TIMESTAMP",
            Self::KeyNull => "KEY_NULL",
            Self::KeyTooLong => "KEY_TOO_LONG",
            Self::KeyMismatch => "KEY_MISMATCH",
            Self::FunctionFailed => "FUNCTION_FAILED",
            Self::StateFull => "STATE_FULL",
            Self::InternalPanic => "INTERNAL_PANIC",
        }
    }
}

/// A refused record: which one, why, and where in its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Row in the [`RawBatch`](crate::raw::RawBatch).
    pub row: u32,
    /// Why.
    pub kind: RejectKind,
    /// Byte in the value where it was noticed.
    pub at: u32,
    /// At most 256 characters that name fields, types and limits but quote no payload.
    pub detail: String,
}

impl Reject {
    /// A refused record. `detail` must quote no payload.
    pub fn new(row: u32, kind: RejectKind, at: usize, detail: impl Into<String>) -> Self {
        Self { row, kind, at: at as u32, detail: detail.into() }
    }
}
