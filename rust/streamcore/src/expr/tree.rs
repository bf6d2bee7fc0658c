//! The parsed expression, before names and types are known, and its canonical text.
//!
//! `parse` builds it, `types` reads it. Invariant: no tree is deeper than [`DEPTH_MAX`], so that
//! walking one cannot exhaust the stack; parsing a tree's text gives an equal tree.

use super::field::Field;
use super::lexer::{Mistake, Span};
use super::{DEPTH_MAX, field};
use std::fmt::{self, Write};

/// One node with its place in the text. Equality is that of the meaning: places do not count.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub kind: Kind,
    pub span: Span,
    depth: usize,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// A function's name with its place, which does not count for equality either.
#[derive(Debug, Clone)]
pub(super) struct Name {
    pub text: String,
    pub span: Span,
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Literal(Literal),
    Parameter(String),
    Field(Field),
    List(Vec<Node>),
    Negate(Box<Node>),
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Compare { comparison: Comparison, left: Box<Node>, right: Box<Node> },
    Arithmetic { operator: Operator, left: Box<Node>, right: Box<Node> },
    In { value: Box<Node>, list: Box<Node>, negated: bool },
    IsNull { value: Box<Node>, negated: bool },
    Call { name: Name, arguments: Vec<Node> },
}

/// A literal value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int64(i64),
    /// As written, because a decimal takes the digits and not the double nearest to them.
    Float(String),
    String(String),
}

/// `==` and its kin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// Every comparison, with its spelling.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Equal, "=="),
        (Self::NotEqual, "!="),
        (Self::Less, "<"),
        (Self::LessOrEqual, "<="),
        (Self::Greater, ">"),
        (Self::GreaterOrEqual, ">="),
    ];

    /// True for `<`, `<=`, `>` and `>=`.
    pub fn is_ordering(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }
}

/// `+` and its kin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
}

impl Operator {
    /// Every operator, with its spelling.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Add, "+"),
        (Self::Subtract, "-"),
        (Self::Multiply, "*"),
        (Self::Divide, "/"),
        (Self::FloorDivide, "//"),
        (Self::Modulo, "%"),
    ];

    /// True for `+` and `-`.
    pub fn is_additive(self) -> bool {
        matches!(self, Self::Add | Self::Subtract)
    }
}

/// The spelling of `wanted` in one of the tables above.
fn spelling<T: PartialEq + Copy>(table: &[(T, &'static str)], wanted: T) -> &'static str {
    table.iter().find(|(entry, _)| *entry == wanted).map_or("?", |(_, spelling)| spelling)
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(spelling(&Self::ALL, *self))
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(spelling(&Self::ALL, *self))
    }
}

/// How tightly a node holds together; an operand looser than its place needs parentheses.
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARISON: u8 = 4;
const SUM: u8 = 5;
const PRODUCT: u8 = 6;
const SIGN: u8 = 7;
const PRIMARY: u8 = 8;

impl Node {
    /// A node of `kind`, unless that makes the tree too deep.
    pub fn new(kind: Kind, span: Span) -> Result<Self, Mistake> {
        let depth = 1 + kind.children().iter().map(|child| child.depth).max().unwrap_or(0);
        if depth > DEPTH_MAX {
            return Err(too_deep(span));
        }
        Ok(Self { kind, span, depth })
    }

    /// True for the word `null`.
    pub fn is_null_literal(&self) -> bool {
        self.kind == Kind::Literal(Literal::Null)
    }

    /// The text for a message, shortened to what one line holds.
    pub fn excerpt(&self) -> String {
        const CHARACTERS_MAX: usize = 48;
        let text = self.to_string();
        if text.chars().count() <= CHARACTERS_MAX {
            return text;
        }
        text.chars().take(CHARACTERS_MAX - 3).chain("...".chars()).collect()
    }

    fn binding(&self) -> u8 {
        match &self.kind {
            Kind::Or(_) => OR,
            Kind::And(_) => AND,
            Kind::Not(_) => NOT,
            Kind::Compare { .. } | Kind::In { .. } | Kind::IsNull { .. } => COMPARISON,
            Kind::Arithmetic { operator, .. } if operator.is_additive() => SUM,
            Kind::Arithmetic { .. } => PRODUCT,
            Kind::Negate(_) => SIGN,
            Kind::Literal(Literal::Int64(value)) if *value < 0 => SIGN,
            Kind::Literal(Literal::Float(written)) if written.starts_with('-') => SIGN,
            _ => PRIMARY,
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, least: u8) -> fmt::Result {
        if self.binding() >= least {
            return self.fmt_kind(f);
        }
        f.write_char('(')?;
        self.fmt_kind(f)?;
        f.write_char(')')
    }

    fn fmt_kind(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Literal(literal) => write!(f, "{literal}"),
            Kind::Parameter(name) => write!(f, "${name}"),
            Kind::Field(field) => write!(f, "{field}"),
            Kind::List(elements) => write_list(f, "[", elements, "]"),
            Kind::Call { name, arguments } => write_list(f, &format!("{}(", name.text), arguments, ")"),
            Kind::Negate(operand) => {
                f.write_char('-')?;
                // `-5` is a literal, so the negation of 5 keeps its parentheses.
                let number = matches!(operand.kind, Kind::Literal(Literal::Int64(_) | Literal::Float(_)));
                operand.write(f, if number { PRIMARY + 1 } else { SIGN })
            }
            Kind::Not(operand) => {
                f.write_str("not ")?;
                operand.write(f, NOT)
            }
            Kind::And(operands) => write_chain(f, operands, " and ", NOT),
            Kind::Or(operands) => write_chain(f, operands, " or ", AND),
            Kind::Compare { comparison, left, right } => {
                left.write(f, SUM)?;
                write!(f, " {comparison} ")?;
                right.write(f, SUM)
            }
            Kind::Arithmetic { operator, left, right } => {
                left.write(f, self.binding())?;
                write!(f, " {operator} ")?;
                right.write(f, self.binding() + 1)
            }
            Kind::In { value, list, negated } => {
                value.write(f, SUM)?;
                f.write_str(if *negated { " not in " } else { " in " })?;
                list.write(f, PRIMARY)
            }
            Kind::IsNull { value, negated } => {
                value.write(f, SUM)?;
                f.write_str(if *negated { " is not null" } else { " is null" })
            }
        }
    }
}

impl Kind {
    fn children(&self) -> Vec<&Node> {
        match self {
            Self::Literal(_) | Self::Parameter(_) | Self::Field(_) => Vec::new(),
            Self::List(nodes) | Self::And(nodes) | Self::Or(nodes) | Self::Call { arguments: nodes, .. } => {
                nodes.iter().collect()
            }
            Self::Negate(node) | Self::Not(node) | Self::IsNull { value: node, .. } => vec![node],
            Self::Compare { left, right, .. } | Self::Arithmetic { left, right, .. } => vec![left, right],
            Self::In { value, list, .. } => vec![value, list],
        }
    }
}

/// The mistake of nesting deeper than [`DEPTH_MAX`].
pub(super) fn too_deep(span: Span) -> Mistake {
    Mistake::new(span, format!("the expression is nested more than {DEPTH_MAX} deep"))
        .hint("compute a part of it in a `select` step before this one")
}

fn write_list(f: &mut fmt::Formatter<'_>, open: &str, nodes: &[Node], close: &str) -> fmt::Result {
    f.write_str(open)?;
    write_chain(f, nodes, ", ", OR)?;
    f.write_str(close)
}

fn write_chain(f: &mut fmt::Formatter<'_>, nodes: &[Node], between: &str, least: u8) -> fmt::Result {
    for (place, node) in nodes.iter().enumerate() {
        if place > 0 {
            f.write_str(between)?;
        }
        node.write(f, least)?;
    }
    Ok(())
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, OR)
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int64(value) => write!(f, "{value}"),
            Self::Float(written) => f.write_str(written),
            Self::String(text) => field::write_string(f, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::parse;
    use crate::raw::Part;
    use proptest::prelude::*;

    fn node(kind: Kind) -> Node {
        Node::new(kind, Span { start: 0, end: 0 }).unwrap()
    }

    fn boxed(node: Node) -> Box<Node> {
        Box::new(node)
    }

    fn leaves() -> impl Strategy<Value = Kind> {
        let paths = ["a", "payload.page_id", "`in`.x", "`a b`"].map(|path| Kind::Field(Field::Path(path.into())));
        let parts = [Part::Key, Part::Header("it's".into())].map(|part| Kind::Field(Field::Part(part)));
        prop_oneof![
            prop::sample::select(paths.to_vec()),
            prop::sample::select(parts.to_vec()),
            any::<i64>().prop_map(|value| Kind::Literal(Literal::Int64(value))),
            prop::sample::select(vec!["0.5", "1.50", "-2e3"])
                .prop_map(|text| Kind::Literal(Literal::Float(text.into()))),
            any::<bool>().prop_map(|value| Kind::Literal(Literal::Bool(value))),
            "[ -~\u{0}-\u{20}é漢\u{85}]{0,5}".prop_map(|text| Kind::Literal(Literal::String(text))),
            Just(Kind::Literal(Literal::Null)),
            Just(Kind::Parameter("limit".into())),
        ]
    }

    fn operations(inner: impl Strategy<Value = Node> + Clone + 'static) -> impl Strategy<Value = Kind> {
        let one = inner.clone().prop_map(boxed);
        let two = || (one.clone(), one.clone());
        let many = prop::collection::vec(inner.clone(), 2..4);
        let list = prop_oneof![
            prop::collection::vec(inner, 0..3).prop_map(|nodes| node(Kind::List(nodes))),
            Just(node(Kind::Parameter("list".into()))),
        ];
        let name = Name { text: "lower".into(), span: Span { start: 0, end: 0 } };
        prop_oneof![
            one.clone().prop_map(Kind::Negate),
            one.clone().prop_map(Kind::Not),
            many.clone().prop_map(Kind::And),
            many.clone().prop_map(Kind::Or),
            many.prop_map(move |arguments| Kind::Call { name: name.clone(), arguments }),
            (prop::sample::select(Comparison::ALL.to_vec()), two())
                .prop_map(|((comparison, _), (left, right))| Kind::Compare { comparison, left, right }),
            (prop::sample::select(Operator::ALL.to_vec()), two())
                .prop_map(|((operator, _), (left, right))| Kind::Arithmetic { operator, left, right }),
            (one.clone(), list.prop_map(boxed), any::<bool>()).prop_map(|(value, list, negated)| Kind::In {
                value,
                list,
                negated
            }),
            (one, any::<bool>()).prop_map(|(value, negated)| Kind::IsNull { value, negated }),
        ]
    }

    fn trees() -> impl Strategy<Value = Node> {
        leaves().prop_map(node).prop_recursive(6, 60, 3, |inner| operations(inner).prop_map(node))
    }

    proptest! {
        #[test]
        fn a_printed_tree_reads_back(tree in trees()) {
            let text = tree.to_string();
            let parsed = parse::expression(&text).map_err(|mistake| TestCaseError::fail(format!("{text}: {mistake:?}")))?;
            prop_assert_eq!(&parsed, &tree, "{}", text);
            prop_assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn only_the_parentheses_that_matter_are_printed() {
        let printed = |text: &str| parse::expression(text).unwrap().to_string();
        assert_eq!(printed("((a)+(b*c))"), "a + b * c");
        assert_eq!(printed("(a+b)*c"), "(a + b) * c");
        assert_eq!(printed("a-(b-c)"), "a - (b - c)");
        assert_eq!(printed("(a and b) or not (c or a)"), "a and b or not (c or a)");
        assert_eq!(printed("-(5) - -5"), "-(5) - -5");
        assert_eq!(printed("not ((a in [1,'x']) == true)"), "not (a in [1, 'x']) == true");
    }

    #[test]
    fn an_excerpt_fits_a_line() {
        let long = parse::expression(&format!("concat('{}')", "é".repeat(100))).unwrap();
        assert_eq!(long.excerpt().chars().count(), 48);
        assert!(long.excerpt().ends_with("..."));
    }

    #[test]
    fn depth_is_that_of_the_longest_path() {
        let mut deep = node(Kind::Parameter("p".into()));
        for _ in 1..DEPTH_MAX {
            deep = node(Kind::Not(boxed(deep)));
        }
        assert!(Node::new(Kind::Not(boxed(deep.clone())), deep.span).is_err());
        assert!(Node::new(Kind::And(vec![deep.clone(), deep.clone()]), deep.span).is_err());
    }
}
