//! Random typed expressions over random rows give what the row-by-row interpreter gives.

use crate::fields::{FIELDS, Fields, column};
use crate::interpreter::{Cell, Overflow, Tree};
use proptest::prelude::*;
use streamcore::batch::{Column, DataType, Scalar};
use streamcore::expr::{Condition, Expression, Parameters};

/// The kinds of value that trees are made of.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Bool,
    Integer,
    Float,
    Text,
    Time,
    Decimal,
}

/// Decides by bytes, so that a failing case shrinks with them: no byte left means the first choice.
struct Choices<'b> {
    bytes: std::slice::Iter<'b, u8>,
}

impl Choices<'_> {
    fn below(&mut self, count: usize) -> usize {
        usize::from(self.bytes.next().copied().unwrap_or(0)) % count
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    fn boxed(&mut self, kind: Kind, depth: usize) -> Box<Tree> {
        Box::new(self.tree(kind, depth))
    }

    fn several(&mut self, kind: Kind, depth: usize) -> Vec<Tree> {
        (0..2 + self.below(2)).map(|_| self.tree(kind, depth)).collect()
    }

    fn tree(&mut self, kind: Kind, depth: usize) -> Tree {
        match (depth, self.below(12)) {
            (0, _) | (_, 0..=1) => self.leaf(kind),
            (_, 2) => Tree::Call("coalesce", self.several(kind, depth - 1)),
            (_, 3) => {
                let condition = self.tree(Kind::Bool, depth - 1);
                Tree::Call("if", vec![condition, self.tree(kind, depth - 1), self.tree(kind, depth - 1)])
            }
            (_, 4) if kind != Kind::Bool => {
                let name = self.pick(&["min_of", "max_of"]);
                Tree::Call(name, self.several(kind, depth - 1))
            }
            _ => match kind {
                Kind::Bool => self.condition(depth - 1),
                Kind::Integer => self.integer(depth - 1),
                Kind::Float => self.float(depth - 1),
                Kind::Text => self.text(depth - 1),
                Kind::Time => self.time(depth - 1),
                Kind::Decimal => self.decimal(),
            },
        }
    }

    fn leaf(&mut self, kind: Kind) -> Tree {
        let columns: &[(&'static str, usize)] = match kind {
            Kind::Bool => &[("b", 3)],
            Kind::Integer => &[("i", 0), ("j", 1)],
            Kind::Float => &[("x", 2)],
            Kind::Text => &[("s", 4), ("payload.page_id", 5)],
            Kind::Time => &[("w", 8)],
            Kind::Decimal => &[("d", 6)],
        };
        // Only beside a decimal is a literal one.
        if kind == Kind::Decimal || self.below(3) < 2 {
            let (name, place) = self.pick(columns);
            return Tree::Column(name, place);
        }
        Tree::Literal(self.literal(kind))
    }

    fn literal(&mut self, kind: Kind) -> Cell {
        match kind {
            Kind::Bool => Cell::Bool(self.below(2) == 1),
            Kind::Integer => Cell::Integer(self.pick(&[0, 1, -1, 2, 3, -7, 1000, i64::MAX, i64::MIN])),
            Kind::Float => Cell::Float(self.pick(&[0.0, 1.5, -2.25, 1e300, -1e-300, 3.0])),
            Kind::Text => Cell::Text(self.pick(&["", "a", "aB", "é", " 漢 x", "12"]).to_owned()),
            Kind::Time => Cell::Time(self.pick(&[0, 86_399_999, -1, 1_767_225_600_000])),
            Kind::Decimal => Cell::Decimal(self.pick(&[0, 150, -1, 99_999]), 2),
        }
    }

    fn condition(&mut self, depth: usize) -> Tree {
        match self.below(6) {
            0 => Tree::Prefix("not", self.boxed(Kind::Bool, depth)),
            1 => Tree::Chain("and", self.several(Kind::Bool, depth)),
            2 => Tree::Chain("or", self.several(Kind::Bool, depth)),
            3 => {
                let kind = self.pick(&[Kind::Bool, Kind::Integer, Kind::Float, Kind::Text, Kind::Time, Kind::Decimal]);
                Tree::IsNull(self.boxed(kind, depth), self.below(2) == 1)
            }
            4 => {
                let kind = self.pick(&[Kind::Integer, Kind::Float, Kind::Text, Kind::Time, Kind::Bool, Kind::Decimal]);
                let list = (0..self.below(12)).map(|_| self.literal(kind)).collect();
                Tree::In(self.boxed(kind, depth), list, self.below(2) == 1)
            }
            _ => self.comparison(depth),
        }
    }

    fn comparison(&mut self, depth: usize) -> Tree {
        if self.below(5) == 0 {
            let name = self.pick(&["starts_with", "ends_with", "contains"]);
            return Tree::Call(name, vec![self.tree(Kind::Text, depth), self.tree(Kind::Text, depth)]);
        }
        let (left, right) = self.pick(&[
            (Kind::Integer, Kind::Integer),
            (Kind::Integer, Kind::Float),
            (Kind::Float, Kind::Float),
            (Kind::Text, Kind::Text),
            (Kind::Time, Kind::Time),
            (Kind::Decimal, Kind::Decimal),
            (Kind::Decimal, Kind::Integer),
        ]);
        let operator = self.pick(&["==", "!=", "<", "<=", ">", ">="]);
        let left_tree = self.boxed(left, depth);
        if left == Kind::Decimal && self.below(2) == 0 {
            return Tree::Infix(operator, left_tree, Box::new(Tree::Literal(self.literal(Kind::Decimal))));
        }
        Tree::Infix(operator, left_tree, self.boxed(right, depth))
    }

    fn integer(&mut self, depth: usize) -> Tree {
        match self.below(8) {
            0 => Tree::Prefix("-", self.boxed(Kind::Integer, depth)),
            1 => Tree::Call("abs", vec![self.tree(Kind::Integer, depth)]),
            2 => Tree::Call("length", vec![self.tree(Kind::Text, depth)]),
            3 => {
                let kind = self.pick(&[Kind::Float, Kind::Text, Kind::Bool]);
                Tree::Call("int", vec![self.tree(kind, depth)])
            }
            4 => Tree::Infix("-", self.boxed(Kind::Time, depth), self.boxed(Kind::Time, depth)),
            5 => Tree::Call("hour", vec![self.tree(Kind::Time, depth)]),
            _ => {
                let operator = self.pick(&["+", "-", "*", "//", "%"]);
                Tree::Infix(operator, self.boxed(Kind::Integer, depth), self.boxed(Kind::Integer, depth))
            }
        }
    }

    fn float(&mut self, depth: usize) -> Tree {
        match self.below(6) {
            0 => Tree::Prefix("-", self.boxed(Kind::Float, depth)),
            1 => Tree::Call(self.pick(&["abs", "floor"]), vec![self.tree(Kind::Float, depth)]),
            2 => {
                let kind = self.pick(&[Kind::Integer, Kind::Decimal]);
                Tree::Call("float", vec![self.tree(kind, depth)])
            }
            3 => {
                let kinds = [Kind::Integer, Kind::Float, Kind::Decimal];
                let (left, right) = (self.pick(&kinds), self.pick(&kinds));
                Tree::Infix("/", self.boxed(left, depth), self.boxed(right, depth))
            }
            _ => {
                let (left, right) = self.pick(&[(Kind::Float, Kind::Float), (Kind::Integer, Kind::Float)]);
                let operator = self.pick(&["+", "-", "*"]);
                Tree::Infix(operator, self.boxed(left, depth), self.boxed(right, depth))
            }
        }
    }

    fn text(&mut self, depth: usize) -> Tree {
        match self.below(4) {
            0 => Tree::Call(self.pick(&["lower", "upper", "trim"]), vec![self.tree(Kind::Text, depth)]),
            1 => {
                let kind = self.pick(&[Kind::Integer, Kind::Float, Kind::Bool, Kind::Text]);
                match self.tree(kind, depth) {
                    // The interpreter writes a text with its quotes.
                    tree if kind == Kind::Text => tree,
                    tree => Tree::Call("string", vec![tree]),
                }
            }
            2 => Tree::Call("concat", self.several(Kind::Text, depth)),
            _ => {
                let operands = [Kind::Text, Kind::Integer, Kind::Integer].map(|kind| self.tree(kind, depth));
                Tree::Call("substring", operands.into())
            }
        }
    }

    fn time(&mut self, depth: usize) -> Tree {
        if self.below(2) == 0 {
            return Tree::Infix("+", self.boxed(Kind::Time, depth), self.boxed(Kind::Integer, depth));
        }
        Tree::Truncate(self.pick(&["hour", "day"]), self.boxed(Kind::Time, depth))
    }

    /// One operation deep: more would reach 38 digits, where the result's type decides what fits.
    fn decimal(&mut self) -> Tree {
        let operator = self.pick(&["+", "-", "*"]);
        let right = if self.below(3) == 0 { Tree::Column("e", 7) } else { Tree::Column("d", 6) };
        Tree::Infix(operator, Box::new(Tree::Column("d", 6)), Box::new(right))
    }
}

fn maybe<T: std::fmt::Debug + Clone + 'static>(
    values: impl Strategy<Value = T> + 'static,
    present: f64,
    cell: fn(T) -> Cell,
) -> BoxedStrategy<Cell> {
    // A weight of 1 is refused there.
    if present >= 1.0 {
        return values.prop_map(cell).boxed();
    }
    prop::option::weighted(present, values).prop_map(move |value| value.map_or(Cell::Null, cell)).boxed()
}

/// One row, in the order of [`FIELDS`].
fn row(present: f64) -> impl Strategy<Value = Vec<Cell>> {
    let integers = || prop_oneof![-9i64..10, any::<i64>(), Just(i64::MIN), Just(i64::MAX)];
    let floats = prop_oneof![-4i8..5].prop_map(f64::from);
    let floats = prop_oneof![floats, any::<f64>().prop_filter("finite", |number| number.is_finite())];
    let texts = || "[aB é漢1]{0,4}";
    vec![
        maybe(integers(), present, Cell::Integer),
        maybe(integers(), present, Cell::Integer),
        maybe(floats, present, Cell::Float),
        maybe(any::<bool>(), present, Cell::Bool),
        maybe(texts(), present, Cell::Text),
        maybe(texts(), present, Cell::Text),
        maybe(-9_999_999_999i128..10_000_000_000, present, |value| Cell::Decimal(value, 2)),
        maybe(-99_999_999i128..100_000_000, present, |value| Cell::Decimal(value, 3)),
        maybe(prop_oneof![any::<i64>(), -100_000_000i64..2_000_000_000_000], present, Cell::Time),
        maybe(texts(), present, Cell::Text),
        maybe(texts(), present, Cell::Text),
    ]
}

fn rows() -> impl Strategy<Value = Vec<Vec<Cell>>> {
    prop_oneof![Just(1.0), Just(0.7)].prop_flat_map(|present| prop::collection::vec(row(present), 0..30))
}

fn columns(rows: &[Vec<Cell>]) -> Vec<Column> {
    let scalars = |place: usize| rows.iter().map(|row| row[place].scalar()).collect::<Vec<_>>();
    FIELDS.iter().enumerate().map(|(place, (_, data_type))| column(*data_type, &scalars(place))).collect()
}

/// The model's value as the engine's column would hold it, whose scale may be the wider one.
fn same(expected: &Cell, found: Scalar<'_>, data_type: DataType) -> bool {
    match (expected, found, data_type) {
        (Cell::Float(expected), Scalar::Float64(found), _) => expected.to_bits() == found.to_bits(),
        (Cell::Decimal(value, scale), Scalar::Decimal(found), DataType::Decimal { scale: wider, .. }) => {
            value * 10_i128.pow((wider - scale).into()) == found
        }
        (expected, found, _) => expected.scalar() == found,
    }
}

/// Compiles; nothing if a part without any column overflows already, which is refused.
fn compiled<T>(result: Result<T, Vec<streamcore::error::Problem>>) -> Result<T, TestCaseError> {
    result.map_err(|problems| match problems.iter().find(|problem| !problem.message.contains("does not fit")) {
        Some(problem) => TestCaseError::fail(problem.to_string()),
        None => TestCaseError::reject("a constant part overflows"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_value_is_that_of_the_interpreter(
        bytes in prop::collection::vec(any::<u8>(), 1..120),
        rows in rows(),
    ) {
        let mut choices = Choices { bytes: bytes.iter() };
        let kind = choices.pick(&[Kind::Bool, Kind::Integer, Kind::Float, Kind::Text, Kind::Time, Kind::Decimal]);
        let tree = choices.tree(kind, 4);
        let text = tree.to_string();
        let mut fields = Fields::default();
        let expression = compiled(Expression::compile(&text, &Parameters::new(), &mut fields, None, "select"))?;
        let columns = columns(&rows);
        let evaluated = expression.evaluate(&columns, rows.len());
        prop_assert_eq!(evaluated.column.len(), rows.len());
        let mut overflowed = Vec::new();
        for (place, row) in rows.iter().enumerate() {
            let found = evaluated.column.get(place);
            let expected = tree.value(row).unwrap_or_else(|Overflow| {
                overflowed.push(place as u32);
                Cell::Null
            });
            let data_type = expression.data_type();
            prop_assert!(same(&expected, found, data_type), "{text}: {expected:?} became {found:?} in {row:?}");
        }
        prop_assert_eq!(evaluated.overflowed, overflowed, "{}", text);
    }

    #[test]
    fn a_condition_keeps_what_the_interpreter_keeps(
        bytes in prop::collection::vec(any::<u8>(), 1..120),
        rows in prop::collection::vec((any::<bool>(), row(0.8)), 0..30),
    ) {
        let tree = Choices { bytes: bytes.iter() }.condition(4);
        let text = tree.to_string();
        let condition = compiled(Condition::compile(&text, &Parameters::new(), &mut Fields::default(), "filter"))?;
        let (mut keep, rows): (Vec<bool>, Vec<Vec<Cell>>) = rows.into_iter().unzip();
        let before = keep.clone();
        let overflowed = condition.retain(&columns(&rows), &mut keep);
        let operands = match &tree {
            Tree::Chain("and", operands) => operands.as_slice(),
            tree => std::slice::from_ref(tree),
        };
        let mut expected_overflows = Vec::new();
        for (place, row) in rows.iter().enumerate() {
            let mut kept = before[place];
            for operand in operands {
                let value = if kept { operand.value(row) } else { break };
                kept = value == Ok(Cell::Bool(true));
                if value == Err(Overflow) {
                    expected_overflows.push(place as u32);
                }
            }
            prop_assert_eq!(keep[place], kept, "{} in {:?}", text, row);
        }
        prop_assert_eq!(overflowed, expected_overflows, "{}", text);
    }
}
