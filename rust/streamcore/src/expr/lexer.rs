//! Cuts an expression's text into tokens, each with its place.
//!
//! `parse` reads them. Invariant: spans lie on character boundaries of the text and rise; the last
//! token is always [`Token::End`].

use super::TEXT_BYTES_MAX;
use crate::error::Problem;

/// Bytes `start..end` of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// From the start of `self` to the end of `other`.
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start, end: other.end }
    }
}

/// A mistake in an expression, before it is known where the expression stands in the pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where.
    pub span: Span,
}

impl Mistake {
    /// A mistake at `span`, without a hint.
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, span }
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The problem to show for the expression `text` at `path`.
    pub fn into_problem(self, path: &str, text: &str) -> Problem {
        let problem = Problem::new(path, self.message);
        let problem =
            if text.len() > TEXT_BYTES_MAX { problem } else { problem.caret(text, self.span.start, self.span.end) };
        match self.hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

/// A piece of the text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A word: keyword, function or path segment.
    Name(String),
    /// A path segment in backquotes, unescaped.
    Quoted(String),
    /// `$name`.
    Parameter(String),
    /// A string literal, unescaped.
    Text(String),
    /// A number without a point or exponent, as written.
    Integer(String),
    /// Any other number, as written.
    Float(String),
    /// An operator or bracket.
    Symbol(&'static str),
    /// The end of the text.
    End,
}

/// Longer ones first, so that `//` is not read as two `/`.
const SYMBOLS: [&str; 19] =
    ["==", "!=", "<=", ">=", "//", "<", ">", "+", "-", "*", "/", "%", "(", ")", "[", "]", ",", ".", ":"];

/// Spellings of other languages, and ours.
const FOREIGN: [(&str, &str); 8] =
    [("&&", "and"), ("||", "or"), ("<>", "!="), ("===", "=="), ("!", "not"), ("=", "=="), ("&", "and"), ("|", "or")];

/// The tokens of `text`, or the first thing that is none.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, Span)>, Mistake> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("the expression is {} bytes long, and the limit is {TEXT_BYTES_MAX}", text.len());
        return Err(
            Mistake::new(Span { start: 0, end: 0 }, message).hint("pass long lists as a parameter: `x in $list`")
        );
    }
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_while(char::is_whitespace);
        let start = lexer.at;
        let token = lexer.token()?;
        let end = token == Token::End;
        tokens.push((token, Span { start, end: lexer.at }));
        if end {
            return Ok(tokens);
        }
    }
}

/// True for a character that may stand inside a bare path segment.
pub(super) fn is_name_character(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

/// True for a character that a bare path segment may begin with.
pub(super) fn is_name_start(character: char) -> bool {
    character == '_' || character.is_alphabetic()
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_while(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let length = rest.find(|character| !wanted(character)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn mistake(&self, start: usize, message: impl Into<String>) -> Mistake {
        Mistake::new(Span { start, end: self.at }, message)
    }

    fn token(&mut self) -> Result<Token, Mistake> {
        match self.peek() {
            None => Ok(Token::End),
            Some(first) if is_name_start(first) => Ok(Token::Name(self.skip_while(is_name_character).to_owned())),
            Some(first) if first.is_ascii_digit() => self.number(),
            Some('\'' | '"') => self.string(),
            Some('`') => self.quoted(),
            Some('$') => self.parameter(),
            Some(other) => self.symbol(other),
        }
    }

    fn symbol(&mut self, first: char) -> Result<Token, Mistake> {
        let (start, rest) = (self.at, self.rest());
        let known = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
        let foreign = FOREIGN.iter().find(|(spelling, _)| rest.starts_with(spelling));
        match (known, foreign) {
            (Some(symbol), foreign) if foreign.is_none_or(|(spelling, _)| spelling.len() <= symbol.len()) => {
                self.at += symbol.len();
                Ok(Token::Symbol(symbol))
            }
            (_, Some((spelling, ours))) => {
                self.at += spelling.len();
                Err(self
                    .mistake(start, format!("`{spelling}` is not an operator here"))
                    .hint(format!("write `{ours}`")))
            }
            _ => {
                self.at += first.len_utf8();
                let message = format!("`{}` has no meaning here", first.escape_debug());
                Err(self
                    .mistake(start, message)
                    .hint("a field name with such characters is written in backquotes: `a b`"))
            }
        }
    }

    fn parameter(&mut self) -> Result<Token, Mistake> {
        let start = self.at;
        self.at += 1;
        match self.skip_while(is_name_character) {
            "" => Err(self.mistake(start, "`$` without the name of a parameter")),
            name => Ok(Token::Parameter(name.to_owned())),
        }
    }

    fn number(&mut self) -> Result<Token, Mistake> {
        let start = self.at;
        self.skip_while(|character| character.is_ascii_digit());
        let mut float = false;
        if self.rest().starts_with('.') && self.rest()[1..].starts_with(|next: char| next.is_ascii_digit()) {
            float = true;
            self.at += 1;
            self.skip_while(|character| character.is_ascii_digit());
        }
        if self.rest().starts_with(['e', 'E']) {
            float = true;
            self.at += 1;
            if self.rest().starts_with(['+', '-']) {
                self.at += 1;
            }
            if self.skip_while(|character| character.is_ascii_digit()).is_empty() {
                return Err(self.mistake(start, "this number's exponent has no digits"));
            }
        }
        if !self.skip_while(is_name_character).is_empty() {
            let hint = "durations and units are not part of the language: write the plain number";
            return Err(self.mistake(start, "this number runs into a name").hint(hint));
        }
        let written = self.text[start..self.at].to_owned();
        Ok(if float { Token::Float(written) } else { Token::Integer(written) })
    }

    fn quoted(&mut self) -> Result<Token, Mistake> {
        let start = self.at;
        self.at += 1;
        let mut name = String::new();
        loop {
            name.push_str(self.skip_while(|character| character != '`'));
            if self.rest().starts_with("``") {
                name.push('`');
                self.at += 2;
            } else if self.rest().is_empty() {
                return Err(self.mistake(start, "the closing backquote is missing"));
            } else {
                self.at += 1;
                break;
            }
        }
        if name.is_empty() { Err(self.mistake(start, "a field name cannot be empty")) } else { Ok(Token::Quoted(name)) }
    }

    fn string(&mut self) -> Result<Token, Mistake> {
        let start = self.at;
        let quote = if self.rest().starts_with('\'') { '\'' } else { '"' };
        self.at += 1;
        let mut value = String::new();
        loop {
            value.push_str(self.skip_while(|character| character != quote && character != '\\'));
            match self.peek() {
                None => return Err(self.mistake(start, format!("the closing {quote} is missing"))),
                Some('\\') => value.push(self.escape()?),
                Some(_) => {
                    self.at += 1;
                    return Ok(Token::Text(value));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, Mistake> {
        let start = self.at;
        self.at += 1;
        let letter = self.peek();
        self.at += letter.map_or(0, char::len_utf8);
        let meant = match letter {
            Some(plain @ ('\\' | '\'' | '"')) => Some(plain),
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            Some('u') => {
                let digits =
                    self.rest().get(..4).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
                self.at += digits.map_or(0, str::len);
                digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32)
            }
            _ => None,
        };
        let hint = r"the escapes are \\ \' \n \r \t \u0000; other characters stand for themselves";
        meant.ok_or_else(|| self.mistake(start, "this escape is not known").hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Token {
        let found = tokens(text).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        found[0].0.clone()
    }

    #[test]
    fn each_kind_of_token_is_read() {
        assert_eq!(only("größe_1"), Token::Name("größe_1".into()));
        assert_eq!(only("`a ``b`"), Token::Quoted("a `b".into()));
        assert_eq!(only("$limit"), Token::Parameter("limit".into()));
        assert_eq!(only(r#""it's \u00e9\n""#), Token::Text("it's é\n".into()));
        assert_eq!(only("007"), Token::Integer("007".into()));
        assert_eq!(only("1.50e-3"), Token::Float("1.50e-3".into()));
        assert_eq!(only(" // "), Token::Symbol("//"));
    }

    #[test]
    fn spans_are_bytes_of_the_text() {
        let found = tokens("é >= 1").unwrap();
        let spans: Vec<_> = found.iter().map(|(_, span)| (span.start, span.end)).collect();
        assert_eq!(spans, [(0, 2), (3, 5), (6, 7), (7, 7)]);
    }

    #[test]
    fn what_is_no_token_is_refused_with_its_place() {
        let place = |text: &str| tokens(text).unwrap_err().span;
        assert_eq!(place("a && b"), Span { start: 2, end: 4 });
        assert_eq!(place("a 'b"), Span { start: 2, end: 4 });
        assert_eq!(place(r"'a\x'"), Span { start: 2, end: 4 });
        assert_eq!(place(r"'\ud800'"), Span { start: 1, end: 7 });
        assert_eq!(place("30s"), Span { start: 0, end: 3 });
        assert_eq!(place("a ; b"), Span { start: 2, end: 3 });
        assert_eq!(place("``"), Span { start: 0, end: 2 });
    }

    #[test]
    fn a_foreign_operator_is_told_the_spelling_here() {
        let hint = |text: &str| tokens(text).unwrap_err().hint.unwrap();
        for (foreign, ours) in FOREIGN {
            assert_eq!(hint(foreign), format!("write `{ours}`"), "{foreign}");
        }
    }

    #[test]
    fn text_over_the_limit_is_refused_before_it_is_read() {
        assert!(tokens(&" ".repeat(TEXT_BYTES_MAX)).is_ok());
        assert!(tokens(&"'".repeat(TEXT_BYTES_MAX + 1)).unwrap_err().message.contains("16384"));
    }
}
