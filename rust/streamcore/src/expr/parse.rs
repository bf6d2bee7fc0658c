//! Reads tokens into a tree: one method a level of binding, loosest first.
//!
//! `lexer` comes before, `types` after. Invariant: the parser never recurses deeper than
//! [`DEPTH_MAX`] brackets, whatever the text.

use super::DEPTH_MAX;
use super::field::{Field, KEYWORDS, PARTS, join_path};
use super::lexer::{self, Mistake, Span, Token};
use super::suggest::did_you_mean;
use super::tree::{Comparison, Kind, Literal, Name, Node, Operator, too_deep};
use crate::raw::Part;

type Parsed<T> = Result<T, Mistake>;

/// A parsed aggregate: `count() where status >= 500`.
#[derive(Debug, PartialEq)]
pub(super) struct AggregateNode {
    pub function: String,
    pub function_span: Span,
    pub arguments: Vec<Node>,
    pub condition: Option<Node>,
}

/// Reads a whole expression.
pub(super) fn expression(text: &str) -> Parsed<Node> {
    let mut parser = Parser::new(text)?;
    let node = parser.disjunction()?;
    parser.end("an operator or the end")?;
    Ok(node)
}

/// Reads a field's name alone.
pub(super) fn field(text: &str) -> Parsed<Field> {
    let mut parser = Parser::new(text)?;
    let field = match parser.peek() {
        Token::Name(_) | Token::Quoted(_) => parser.field()?,
        _ => return Err(parser.unexpected("a field")),
    };
    match parser.end("the end of the field's name") {
        Err(mistake) if mistake.hint.is_none() => {
            Err(mistake.hint("a name with other characters than letters, digits and `_` is written in backquotes"))
        }
        Err(mistake) => Err(mistake),
        Ok(()) => Ok(field),
    }
}

/// Reads `function(arguments) [where condition]`.
pub(super) fn aggregate(text: &str) -> Parsed<AggregateNode> {
    let mut parser = Parser::new(text)?;
    let (Token::Name(function), function_span) = parser.next() else {
        parser.at = 0;
        return Err(parser.unexpected("an aggregate").hint("an aggregate is a call: `count()`, `sum(amount)`"));
    };
    if !parser.symbol("(") {
        return Err(parser.unexpected(&format!("`(` after `{function}`")).hint("an aggregate is a call: `count()`"));
    }
    if matches!(parser.peek(), Token::Symbol("*")) {
        return Err(parser.unexpected("an argument").hint(format!("write `{function}()`")));
    }
    let arguments = parser.arguments(")")?;
    let condition = if parser.word("where") { Some(parser.disjunction()?) } else { None };
    let expected = if condition.is_some() { "an operator or the end" } else { "`where` or the end" };
    parser.end(expected)?;
    Ok(AggregateNode { function, function_span, arguments, condition })
}

struct Parser {
    tokens: Vec<(Token, Span)>,
    at: usize,
    nesting: usize,
}

impl Parser {
    fn new(text: &str) -> Parsed<Self> {
        Ok(Self { tokens: lexer::tokens(text)?, at: 0, nesting: 0 })
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn span(&self) -> Span {
        self.tokens[self.at].1
    }

    /// Span of the token before this one.
    fn last_span(&self) -> Span {
        self.tokens[self.at.saturating_sub(1)].1
    }

    /// Takes a token; the end is never passed.
    fn next(&mut self) -> (Token, Span) {
        let token = self.tokens[self.at].clone();
        if token.0 != Token::End {
            self.at += 1;
        }
        token
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Token::Symbol(found) if *found == symbol);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Name(found) if found == word);
        self.at += usize::from(found);
        found
    }

    /// Takes `not in`, which is `not` and no operator if `in` does not follow.
    fn not_in(&mut self) -> bool {
        let is = |at: usize, word: &str| matches!(self.tokens.get(at), Some((Token::Name(name), _)) if name == word);
        let found = is(self.at, "not") && is(self.at + 1, "in");
        self.at += if found { 2 } else { 0 };
        found
    }

    /// The mistake of finding this token where `expected` should be.
    fn unexpected(&self, expected: &str) -> Mistake {
        let (token, span) = (self.peek(), self.span());
        let found = match token {
            Token::End => "the end".to_owned(),
            Token::Name(name) => format!("`{name}`"),
            Token::Quoted(name) => format!("the field `{name}`"),
            Token::Parameter(name) => format!("`${name}`"),
            Token::Text(_) => "a string".to_owned(),
            Token::Integer(written) | Token::Float(written) => format!("`{written}`"),
            Token::Symbol(symbol) => format!("`{symbol}`"),
        };
        let mistake = Mistake::new(span, format!("expected {expected}, found {found}"));
        match token {
            Token::Name(name) => match keyword_meant(name) {
                Some(keyword) => mistake.hint(format!("write `{keyword}`")),
                None => mistake,
            },
            Token::Symbol("[") => {
                mistake.hint("a list cannot be indexed; only `_headers['name']` is written like this")
            }
            _ => mistake,
        }
    }

    fn end(&self, expected: &str) -> Parsed<()> {
        if *self.peek() == Token::End { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    /// Runs `inner` one bracket, sign or `not` deeper.
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.nesting == DEPTH_MAX {
            return Err(too_deep(self.span()));
        }
        self.nesting += 1;
        let result = inner(self);
        self.nesting -= 1;
        result
    }

    fn disjunction(&mut self) -> Parsed<Node> {
        self.chain("or", Self::conjunction, Kind::Or)
    }

    fn conjunction(&mut self) -> Parsed<Node> {
        self.chain("and", Self::negation, Kind::And)
    }

    /// `a or b or c` is one node of three operands: long chains are common and not deep.
    fn chain(
        &mut self,
        word: &str,
        operand: fn(&mut Self) -> Parsed<Node>,
        kind: fn(Vec<Node>) -> Kind,
    ) -> Parsed<Node> {
        let first = operand(self)?;
        let start = first.span;
        let mut operands = vec![first];
        while self.word(word) {
            operands.push(operand(self)?);
        }
        if operands.len() == 1 {
            return Ok(operands.remove(0));
        }
        Node::new(kind(operands), start.to(self.last_span()))
    }

    fn negation(&mut self) -> Parsed<Node> {
        let start = self.span();
        if !self.word("not") {
            return self.comparison();
        }
        let operand = self.deeper(Self::negation)?;
        Node::new(Kind::Not(Box::new(operand)), start.to(self.last_span()))
    }

    fn comparison(&mut self) -> Parsed<Node> {
        let left = self.sum()?;
        let start = left.span;
        let value = Box::new(left);
        let kind = if let Some(comparison) = self.one_of(&Comparison::ALL) {
            Kind::Compare { comparison, left: value, right: Box::new(self.sum()?) }
        } else if self.word("is") {
            let negated = self.word("not");
            if !self.word("null") {
                return Err(self.unexpected("`null`").hint("values are compared with `==` and `!=`"));
            }
            Kind::IsNull { value, negated }
        } else if self.word("in") {
            Kind::In { value, list: Box::new(self.list()?), negated: false }
        } else if self.not_in() {
            Kind::In { value, list: Box::new(self.list()?), negated: true }
        } else {
            return Ok(*value);
        };
        let node = Node::new(kind, start.to(self.last_span()))?;
        let again = self.span();
        if self.one_of(&Comparison::ALL).is_some() || self.word("in") || self.word("is") || self.not_in() {
            let hint = "join two comparisons with `and`, or put one in parentheses";
            return Err(Mistake::new(again, "comparisons cannot be chained").hint(hint));
        }
        Ok(node)
    }

    /// Takes a symbol of `table`, if one is next.
    fn one_of<T: Copy>(&mut self, table: &[(T, &'static str)]) -> Option<T> {
        let Token::Symbol(symbol) = *self.peek() else { return None };
        let found = table.iter().find(|(_, spelling)| *spelling == symbol).map(|(entry, _)| *entry);
        self.at += usize::from(found.is_some());
        found
    }

    /// What may stand after `in`.
    fn list(&mut self) -> Parsed<Node> {
        let start = self.span();
        let kind = match self.peek() {
            Token::Parameter(name) => {
                let name = name.clone();
                self.at += 1;
                Kind::Parameter(name)
            }
            Token::Symbol("[") => {
                self.at += 1;
                Kind::List(self.arguments("]")?)
            }
            _ => return Err(self.unexpected("a list").hint("a list is written `[1, 2]` or `$name`")),
        };
        Node::new(kind, start.to(self.last_span()))
    }

    /// What is left of a list in brackets, up to `close`.
    fn arguments(&mut self, close: &'static str) -> Parsed<Vec<Node>> {
        let mut arguments = Vec::new();
        if self.symbol(close) {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.deeper(Self::disjunction)?);
            if self.symbol(close) {
                return Ok(arguments);
            }
            if !self.symbol(",") {
                return Err(self.unexpected(&format!("`,` or `{close}`")));
            }
        }
    }

    fn sum(&mut self) -> Parsed<Node> {
        self.left_chain(&Operator::ALL[..2], Self::product)
    }

    fn product(&mut self) -> Parsed<Node> {
        self.left_chain(&Operator::ALL[2..], Self::signed)
    }

    fn left_chain(
        &mut self,
        operators: &[(Operator, &'static str)],
        operand: fn(&mut Self) -> Parsed<Node>,
    ) -> Parsed<Node> {
        let mut left = operand(self)?;
        while let Some(operator) = self.one_of(operators) {
            let start = left.span;
            let right = Box::new(operand(self)?);
            let kind = Kind::Arithmetic { operator, left: Box::new(left), right };
            left = Node::new(kind, start.to(self.last_span()))?;
        }
        Ok(left)
    }

    fn signed(&mut self) -> Parsed<Node> {
        let start = self.span();
        if !self.symbol("-") {
            return self.primary();
        }
        // A sign and digits are one literal, or the least int64 could not be written.
        let kind = match self.peek().clone() {
            Token::Integer(digits) => {
                self.at += 1;
                integer(&format!("-{digits}"), start.to(self.last_span()))?
            }
            Token::Float(digits) => {
                self.at += 1;
                float(format!("-{digits}"), start.to(self.last_span()))?
            }
            _ => Kind::Negate(Box::new(self.deeper(Self::signed)?)),
        };
        Node::new(kind, start.to(self.last_span()))
    }

    fn primary(&mut self) -> Parsed<Node> {
        let span = self.span();
        let kind = match self.peek().clone() {
            Token::Symbol("(") => return self.parenthesised(),
            Token::Name(name) => self.name(name)?,
            Token::Quoted(_) => Kind::Field(self.field()?),
            token @ (Token::Symbol(_) | Token::End) => {
                let mistake = self.unexpected("a value");
                return Err(if token == Token::Symbol("[") {
                    mistake.hint("a list can only stand after `in`")
                } else {
                    mistake
                });
            }
            Token::Parameter(name) => self.take(Kind::Parameter(name)),
            Token::Text(text) => self.take(Kind::Literal(Literal::String(text))),
            Token::Integer(digits) => integer(&digits, span).map(|kind| self.take(kind))?,
            Token::Float(digits) => float(digits, span).map(|kind| self.take(kind))?,
        };
        Node::new(kind, span.to(self.last_span()))
    }

    /// Passes the token that became `kind`.
    fn take(&mut self, kind: Kind) -> Kind {
        self.at += 1;
        kind
    }

    fn parenthesised(&mut self) -> Parsed<Node> {
        let start = self.span();
        self.at += 1;
        let mut node = self.deeper(Self::disjunction)?;
        if !self.symbol(")") {
            let mistake = self.unexpected("an operator or `)`");
            return Err(if *self.peek() == Token::Symbol(",") {
                mistake.hint("a list is written in brackets: `[1, 2]`")
            } else {
                mistake
            });
        }
        node.span = start.to(self.last_span());
        Ok(node)
    }

    /// A name: a keyword that is a value, a call, or a field.
    fn name(&mut self, name: String) -> Parsed<Kind> {
        let literal = match name.as_str() {
            "true" => Some(Literal::Bool(true)),
            "false" => Some(Literal::Bool(false)),
            "null" => Some(Literal::Null),
            _ => None,
        };
        if let Some(literal) = literal {
            return Ok(self.take(Kind::Literal(literal)));
        }
        if !matches!(self.tokens[self.at + 1].0, Token::Symbol("(")) || KEYWORDS.contains(&name.as_str()) {
            return self.field().map(Kind::Field);
        }
        let name = Name { text: name, span: self.span() };
        self.at += 2;
        Ok(Kind::Call { name, arguments: self.arguments(")")? })
    }

    /// A path or record part; the next token is a name.
    fn field(&mut self) -> Parsed<Field> {
        let (first, span) = self.next();
        let mut segments = match first {
            Token::Name(name) if name.starts_with('_') => return self.part(&name, span).map(Field::Part),
            Token::Name(name) => match keyword_meant(&name) {
                Some(keyword) => return Err(misplaced_keyword(&name, keyword, span)),
                None => vec![name],
            },
            Token::Quoted(name) => vec![name],
            _ => unreachable!("callers look at the token first"),
        };
        while self.symbol(".") {
            match self.next() {
                (Token::Name(name) | Token::Quoted(name), _) => segments.push(name),
                (_, span) => {
                    let hint = "a part with other characters than letters, digits and `_` is written in backquotes";
                    return Err(Mistake::new(span, "expected a field's name after the point").hint(hint));
                }
            }
        }
        Ok(Field::Path(join_path(&segments)))
    }

    fn part(&mut self, name: &str, span: Span) -> Parsed<Part> {
        if name == "_headers" {
            return self.header();
        }
        if let Some((_, part)) = PARTS.iter().find(|(known, _)| *known == name) {
            return Ok(part.clone());
        }
        let known = PARTS.iter().map(|(known, _)| *known).chain(["_headers"]);
        let meant = did_you_mean(name, known).map_or(String::new(), |known| format!("did you mean `{known}`? "));
        let hint = format!("{meant}A field of that name is written `{name}` in backquotes");
        Err(Mistake::new(span, format!("there is no record part `{name}`")).hint(hint))
    }

    fn header(&mut self) -> Parsed<Part> {
        const HINT: &str = "write _headers['name']";
        if !self.symbol("[") {
            return Err(self.unexpected("`[` after `_headers`").hint(HINT));
        }
        let Token::Text(name) = self.peek().clone() else {
            return Err(self.unexpected("a header's name in quotes").hint(HINT));
        };
        self.at += 1;
        if self.symbol("]") { Ok(Part::Header(name)) } else { Err(self.unexpected("`]`").hint(HINT)) }
    }
}

fn integer(digits: &str, span: Span) -> Parsed<Kind> {
    digits.parse().map(|value| Kind::Literal(Literal::Int64(value))).map_err(|_| {
        Mistake::new(span, "this integer does not fit int64").hint("write it with a point (`1.0`) for a float64")
    })
}

fn float(digits: String, span: Span) -> Parsed<Kind> {
    if digits.parse().is_ok_and(f64::is_finite) {
        return Ok(Kind::Literal(Literal::Float(digits)));
    }
    Err(Mistake::new(span, "this number does not fit float64"))
}

/// The keyword that `name` is, in whatever case or in Python's spelling.
fn keyword_meant(name: &str) -> Option<&'static str> {
    if name == "None" {
        return Some("null");
    }
    KEYWORDS.into_iter().find(|keyword| keyword.eq_ignore_ascii_case(name))
}

fn misplaced_keyword(name: &str, keyword: &str, span: Span) -> Mistake {
    let quoted = format!("a field of that name is written `{name}` in backquotes");
    if name == keyword {
        Mistake::new(span, format!("`{name}` is a keyword and cannot stand here")).hint(quoted)
    } else {
        Mistake::new(span, format!("`{name}` is not a word of the language"))
            .hint(format!("write `{keyword}`; {quoted}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(node: &Node) -> (usize, usize) {
        (node.span.start, node.span.end)
    }

    #[test]
    fn a_span_covers_its_parentheses() {
        let node = expression(" (a + b) * c ").unwrap();
        assert_eq!(spans(&node), (1, 12));
        let Kind::Arithmetic { left, right, .. } = &node.kind else { panic!("{node}") };
        assert_eq!((spans(left), spans(right)), ((1, 8), (11, 12)));
    }

    #[test]
    fn keywords_are_names_after_a_point_and_in_backquotes() {
        let path = |text: &str| expression(text).map(|node| node.to_string()).ok();
        assert_eq!(path("payload.in").as_deref(), Some("payload.in"));
        assert_eq!(path("`in` in [1]").as_deref(), Some("`in` in [1]"));
        assert_eq!(path("payload . `a b`").as_deref(), Some("payload.`a b`"));
        assert_eq!(path("is == 1"), None);
    }

    #[test]
    fn nesting_is_bounded_whatever_opens_it() {
        for (open, middle, close) in [("(", "a", ")"), ("-", "a", ""), ("not ", "a", ""), ("f(", "a", ")")] {
            let nested = |depth| format!("{}{middle}{}", open.repeat(depth), close.repeat(depth));
            assert!(expression(&nested(DEPTH_MAX - 1)).is_ok(), "{open}");
            let refused = expression(&nested(DEPTH_MAX + 1)).unwrap_err();
            assert_eq!(refused, too_deep(refused.span), "{open}");
        }
    }

    #[test]
    fn an_aggregate_keeps_its_places() {
        let call = aggregate("sum(a, b * 2) where a is not null").unwrap();
        assert_eq!((call.function_span.start, call.function_span.end), (0, 3));
        assert_eq!(call.arguments.iter().map(spans).collect::<Vec<_>>(), [(4, 5), (7, 12)]);
        assert_eq!(call.condition.unwrap().to_string(), "a is not null");
        assert_eq!(aggregate("count() where where > 1").unwrap().condition.unwrap().to_string(), "where > 1");
    }
}
