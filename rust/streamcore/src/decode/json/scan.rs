//! Validates JSON text byte by byte, without building anything.
//!
//! `json/mod.rs` walks the objects it wants values from and calls [`Scanner::skip_value`] for the
//! rest, so every byte of a record is checked whether it is wanted or not. The text must be valid
//! UTF-8 (checked for a whole batch at once by the caller). Invariant: `at` never passes the end.

use super::text::{hex_unit, plain_text_len};
use crate::error::RejectKind;

/// What is wrong with a text, and the byte where it was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The class of the fault.
    pub kind: RejectKind,
    /// Byte in the text.
    pub at: usize,
    /// A few words for the detail; never quotes the text.
    pub message: &'static str,
}

/// Result of a scan.
pub type Scan<T> = Result<T, Fault>;

/// Most digits (and signs, points, exponents) of a number.
pub const NUMBER_BYTES_MAX: usize = 1024;

/// What a value is, and the bytes it spans: text without its quotes, others whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    /// The kind.
    pub kind: Kind,
    /// First byte.
    pub start: u32,
    /// One past the last.
    pub end: u32,
}

/// Most levels that can be told apart, objects from arrays: a bit each.
pub const DEPTH_MAX: u32 = u128::BITS;

/// JSON kinds; for text, whether it holds escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true`.
    True,
    /// `false`.
    False,
    /// A number without point or exponent.
    Integer,
    /// A number with one.
    Fraction,
    /// Text without escapes.
    Text,
    /// Text with escapes.
    EscapedText,
    /// An object.
    Object,
    /// An array.
    Array,
}

impl Kind {
    /// The name used in details.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::True | Self::False => "bool",
            Self::Integer => "integer",
            Self::Fraction => "number",
            Self::Text | Self::EscapedText => "string",
            Self::Object => "object",
            Self::Array => "array",
        }
    }
}

/// A position in a text.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    depth: u32,
    depth_max: u32,
}

impl<'a> Scanner<'a> {
    /// Starts at the first byte; `depth_max` bounds nested objects and arrays (at most [`DEPTH_MAX`]).
    #[must_use]
    pub fn new(text: &'a [u8], depth_max: u32) -> Self {
        Self { text, at: 0, depth: 0, depth_max }
    }

    /// Stands on the byte `at` of a text, for looking at the one value there.
    pub(super) fn starting_at(text: &'a [u8], at: usize) -> Self {
        Self { at, ..Self::new(text, 0) }
    }

    /// The byte the scanner stands on.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// A syntax fault here.
    #[must_use]
    pub fn fault(&self, message: &'static str) -> Fault {
        Fault { kind: RejectKind::DecodeSyntax, at: self.at, message }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// The next byte that is not white space, without passing it.
    #[inline]
    pub fn peek_token(&mut self) -> Scan<u8> {
        loop {
            match self.peek() {
                Some(byte) if byte > b' ' => return Ok(byte),
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(_) => return Err(self.fault("a control character outside text")),
                None => return Err(self.fault("the record ends too early")),
            }
        }
    }

    /// Passes `byte`, which must be the next token.
    #[inline]
    pub fn expect(&mut self, byte: u8, message: &'static str) -> Scan<()> {
        if self.peek_token()? != byte {
            return Err(self.fault(message));
        }
        self.at += 1;
        Ok(())
    }

    /// Passes the `{` the scanner stands on and goes one level down.
    pub fn known_open(&mut self) -> Scan<()> {
        if self.depth >= self.depth_max {
            return Err(Fault {
                kind: RejectKind::DepthLimit,
                at: self.at,
                message: "objects and arrays are nested deeper than the limit",
            });
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    /// After `{` or `,`: the next key, or the end of the object. `first` is true right after `{`.
    #[inline]
    pub fn next_key(&mut self, first: bool) -> Scan<Option<Value>> {
        let byte = self.peek_token()?;
        if byte == b'}' && first {
            self.close();
            return Ok(None);
        }
        if !first {
            match byte {
                b',' => self.at += 1,
                b'}' => {
                    self.close();
                    return Ok(None);
                }
                _ => return Err(self.fault("expected `,` or `}`")),
            }
            self.peek_token()?;
        }
        if self.peek() != Some(b'"') {
            return Err(self.fault("expected a field name"));
        }
        let key = self.known_text()?;
        self.expect(b':', "expected `:`")?;
        Ok(Some(key))
    }

    fn close(&mut self) {
        self.at += 1;
        self.depth -= 1;
    }

    /// Passes one value of any kind, checking all of it.
    #[inline]
    pub fn skip_value(&mut self) -> Scan<Value> {
        match self.peek_token()? {
            b'"' => self.known_text(),
            b'{' | b'[' => self.skip_nested(),
            b'-' | b'0'..=b'9' => self.known_number(),
            b't' => self.literal(b"true", Kind::True),
            b'f' => self.literal(b"false", Kind::False),
            b'n' => self.literal(b"null", Kind::Null),
            _ => Err(self.fault("expected a value")),
        }
    }

    fn literal(&mut self, word: &'static [u8], kind: Kind) -> Scan<Value> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.fault("expected a value"));
        }
        let start = self.at as u32;
        self.at += word.len();
        Ok(Value { kind, start, end: self.at as u32 })
    }

    /// Passes the object or array the scanner stands on, without recursion: one bit a level says
    /// whether it is an object.
    fn skip_nested(&mut self) -> Scan<Value> {
        let start = self.at as u32;
        let kind = if self.text[self.at] == b'{' { Kind::Object } else { Kind::Array };
        let base = self.depth;
        let mut objects = 0_u128;
        let mut value_next = true;
        loop {
            if value_next {
                let open = self.peek_token()?;
                if matches!(open, b'{' | b'[') {
                    self.known_open()?;
                    objects = (objects << 1) | u128::from(open == b'{');
                    value_next = self.enter_nested(open == b'{')?;
                } else {
                    self.skip_value()?;
                    value_next = false;
                }
            } else {
                let in_object = objects & 1 == 1;
                match (self.peek_token()?, in_object) {
                    (b',', true) => {
                        self.at += 1;
                        self.key_and_colon()?;
                        value_next = true;
                    }
                    (b',', false) => {
                        self.at += 1;
                        value_next = true;
                    }
                    (b'}', true) | (b']', false) => {
                        self.at += 1;
                        self.depth -= 1;
                        objects >>= 1;
                        if self.depth == base {
                            return Ok(Value { kind, start, end: self.at as u32 });
                        }
                    }
                    (_, true) => return Err(self.fault("expected `,` or `}`")),
                    (_, false) => return Err(self.fault("expected `,` or `]`")),
                }
            }
        }
    }

    /// After an opening bracket: true when a value comes next, false at an empty one's end.
    fn enter_nested(&mut self, object: bool) -> Scan<bool> {
        match (self.peek_token()?, object) {
            (b'}', true) | (b']', false) => Ok(false),
            (_, true) => self.key_and_colon().map(|()| true),
            (_, false) => Ok(true),
        }
    }

    fn key_and_colon(&mut self) -> Scan<()> {
        if self.peek_token()? != b'"' {
            return Err(self.fault("expected a field name"));
        }
        self.known_text()?;
        self.expect(b':', "expected `:`")
    }

    /// Passes the text whose opening quote the scanner stands on.
    #[inline]
    pub fn known_text(&mut self) -> Scan<Value> {
        self.at += 1;
        let start = self.at as u32;
        let mut kind = Kind::Text;
        loop {
            self.at += plain_text_len(&self.text[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    let end = self.at as u32;
                    self.at += 1;
                    return Ok(Value { kind, start, end });
                }
                Some(b'\\') => {
                    kind = Kind::EscapedText;
                    self.escape()?;
                }
                Some(_) => return Err(self.fault("a raw control character in text")),
                None => return Err(self.fault("text that does not end")),
            }
        }
    }

    fn escape(&mut self) -> Scan<()> {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => self.unicode_escape(),
            Some(_) => Err(self.fault("an unknown escape")),
            None => Err(self.fault("text that does not end")),
        }
    }

    fn unicode_escape(&mut self) -> Scan<()> {
        let lone = Fault { kind: RejectKind::DecodeUtf8, at: self.at, message: "a lone surrogate escape" };
        let unit = self.hex_unit(self.at)?;
        match unit {
            0xD800..=0xDBFF => {
                if self.text.get(self.at + 6..self.at + 8) != Some(b"\\u") {
                    return Err(lone);
                }
                let low = self.hex_unit(self.at + 6)?;
                if !(0xDC00..=0xDFFF).contains(&low) {
                    return Err(lone);
                }
                self.at += 12;
            }
            0xDC00..=0xDFFF => return Err(lone),
            _ => self.at += 6,
        }
        Ok(())
    }

    /// The UTF-16 unit of the `\uXXXX` at `at`.
    fn hex_unit(&self, at: usize) -> Scan<u16> {
        let digits = self.text.get(at + 2..).and_then(<[u8]>::first_chunk);
        let digits = digits.ok_or_else(|| self.fault("an escape that does not end"))?;
        hex_unit(*digits).ok_or_else(|| self.fault("an escape with a wrong digit"))
    }

    /// Passes the number the scanner stands on.
    #[inline]
    pub(super) fn known_number(&mut self) -> Scan<Value> {
        let start = self.at;
        let mut kind = Kind::Integer;
        if self.text[self.at] == b'-' {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.fault("expected a digit")),
        }
        if self.peek() == Some(b'.') {
            kind = Kind::Fraction;
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            kind = Kind::Fraction;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        if self.at - start > NUMBER_BYTES_MAX {
            return Err(Fault {
                kind: RejectKind::NumberRange,
                at: start,
                message: "a number of more than 1024 characters",
            });
        }
        Ok(Value { kind, start: start as u32, end: self.at as u32 })
    }

    #[inline]
    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Scan<()> {
        let start = self.at;
        self.digits();
        if self.at == start { Err(self.fault("expected a digit")) } else { Ok(()) }
    }

    /// Checks that only white space is left.
    pub fn finish(&mut self) -> Scan<()> {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
        if self.at < self.text.len() { Err(self.fault("bytes after the end of the value")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Scan<Value> {
        let mut scanner = Scanner::new(text.as_bytes(), 64);
        let value = scanner.skip_value()?;
        scanner.finish()?;
        Ok(value)
    }

    #[test]
    fn values_of_every_kind_are_accepted() {
        for (text, kind) in [
            ("null", Kind::Null),
            (" true ", Kind::True),
            ("-0", Kind::Integer),
            ("-1.5e+10", Kind::Fraction),
            ("\"a\u{e9}\"", Kind::Text),
            ("\"\\ud83d\\ude00\\u0000\"", Kind::EscapedText),
            ("{\"a\":[{},[],{\"b\":[1,2,{\"c\":null}]}]}", Kind::Object),
            ("[[],{}]", Kind::Array),
        ] {
            assert_eq!(scan(text).map(|value| value.kind), Ok(kind), "{text}");
        }
    }

    #[test]
    fn faults_name_their_class() {
        for (text, kind) in [
            ("", RejectKind::DecodeSyntax),
            ("01", RejectKind::DecodeSyntax),
            ("1.", RejectKind::DecodeSyntax),
            ("[1,]", RejectKind::DecodeSyntax),
            ("{\"a\":1,}", RejectKind::DecodeSyntax),
            ("{\"a\" 1}", RejectKind::DecodeSyntax),
            ("[1}", RejectKind::DecodeSyntax),
            ("NaN", RejectKind::DecodeSyntax),
            ("\"a\nb\"", RejectKind::DecodeSyntax),
            ("\"\\x\"", RejectKind::DecodeSyntax),
            ("\"\\ud800\"", RejectKind::DecodeUtf8),
            ("\"\\udc00\"", RejectKind::DecodeUtf8),
            ("{} {}", RejectKind::DecodeSyntax),
        ] {
            assert_eq!(scan(text).map_err(|fault| fault.kind), Err(kind), "{text}");
        }
        assert_eq!(scan(&"[".repeat(100_000)).map_err(|fault| fault.kind), Err(RejectKind::DepthLimit));
        assert_eq!(scan(&"1".repeat(2000)).map_err(|fault| fault.kind), Err(RejectKind::NumberRange));
    }
}
