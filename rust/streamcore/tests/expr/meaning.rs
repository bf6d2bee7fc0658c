//! What each construct of the language gives, on one row or a few.

use crate::fields::{FIELDS, Fields, column};
use serde_json::json;
use std::borrow::Cow;
use streamcore::batch::{Column, DataType, Scalar};
use streamcore::expr::{AggregateCall, Condition, Expression, Parameters};

const NULL: Scalar<'static> = Scalar::Null;

fn text(value: &str) -> Scalar<'_> {
    Scalar::Bytes(value.as_bytes())
}

/// A row with a value in every column, and a row of nulls.
fn columns() -> Vec<Column> {
    let row = [
        Scalar::Int64(7),
        Scalar::Int64(-2),
        Scalar::Float64(2.5),
        Scalar::Bool(true),
        text("Hello"),
        text("home"),
        Scalar::Decimal(1050),
        Scalar::Decimal(10_500),
        Scalar::Int64(1_767_225_600_123),
        text("s:x"),
        text("home"),
    ];
    FIELDS.iter().zip(row).map(|((_, data_type), value)| column(*data_type, &[value, NULL])).collect()
}

fn parameters() -> Parameters {
    Parameters::from([
        ("limit".into(), json!(7)),
        ("cut".into(), json!(10.5)),
        ("names".into(), json!(["home", "cart"])),
        ("prices".into(), json!([10.50, 11, 0.001])),
        ("none".into(), json!([])),
    ])
}

fn compile(expression: &str) -> Expression {
    Expression::compile(expression, &parameters(), &mut Fields::default(), None, "select").expect(expression)
}

/// The value in the row with values, and in the row of nulls.
#[track_caller]
fn gives(expression: &str, data_type: DataType, value: Scalar<'_>, of_nulls: Scalar<'_>) {
    let compiled = compile(expression);
    let columns = columns();
    let evaluated = compiled.evaluate(&columns, 2);
    assert_eq!(compiled.data_type(), data_type, "{expression}");
    assert_eq!(evaluated.column.data_type, data_type, "{expression}");
    assert_eq!(evaluated.overflowed, [0_u32; 0], "{expression}");
    assert_eq!((evaluated.column.get(0), evaluated.column.get(1)), (value, of_nulls), "{expression}");
}

#[track_caller]
fn condition(expression: &str, value: bool) {
    gives(expression, DataType::Bool, Scalar::Bool(value), NULL);
}

#[track_caller]
fn integer(expression: &str, value: i64) {
    gives(expression, DataType::Int64, Scalar::Int64(value), NULL);
}

#[track_caller]
fn string(expression: &str, value: &str) {
    gives(expression, DataType::String, text(value), NULL);
}

#[test]
fn numbers() {
    integer("i + j * 2", 3);
    integer("(i + j) * 2", 10);
    integer("i // j", -4);
    integer("i % j", -1);
    integer("-i - -3", -4);
    integer("abs(j)", 2);
    integer("max_of(i, j, 3)", 7);
    gives("i / j", DataType::Float64, Scalar::Float64(-3.5), NULL);
    gives("i * x", DataType::Float64, Scalar::Float64(17.5), NULL);
    gives("round(x)", DataType::Float64, Scalar::Float64(3.0), NULL);
    gives("min_of(i, x)", DataType::Float64, Scalar::Float64(2.5), NULL);
    gives("i / 0", DataType::Float64, NULL, NULL);
    gives("i // 0", DataType::Int64, NULL, NULL);
    gives("i % (j + 2)", DataType::Int64, NULL, NULL);
    condition("i > x and i >= 7.0 and 6.5 < i", true);
}

#[test]
fn decimals_are_exact() {
    let decimal = |precision, scale| DataType::Decimal { precision, scale };
    gives("d + e", decimal(12, 3), Scalar::Decimal(21_000), NULL);
    gives("d - 0.001", decimal(12, 3), Scalar::Decimal(10_499), NULL);
    gives("d * 2", decimal(11, 2), Scalar::Decimal(2_100), NULL);
    gives("d * i", decimal(29, 2), Scalar::Decimal(7_350), NULL);
    gives("d * e", decimal(18, 5), Scalar::Decimal(11_025_000), NULL);
    gives("-d", decimal(10, 2), Scalar::Decimal(-1050), NULL);
    gives("ceil(d)", decimal(9, 0), Scalar::Decimal(11), NULL);
    gives("coalesce(d, e)", decimal(11, 3), Scalar::Decimal(10_500), NULL);
    gives("coalesce(d, 0.001)", decimal(11, 3), Scalar::Decimal(10_500), Scalar::Decimal(1));
    gives("d / 2", DataType::Float64, Scalar::Float64(5.25), NULL);
    condition("d == e and d == 10.5 and d > 10 and d < i + 4 and d == $cut", true);
    condition("d in $prices", true);
    condition("d in [10.501, 0.001]", false);
    string("string(d)", "10.50");
    integer("int(d)", 10);
    gives("float(d)", DataType::Float64, Scalar::Float64(10.5), NULL);
}

#[test]
fn text_functions() {
    string("concat(upper(s), '-', lower(s))", "HELLO-hello");
    string("substring(s, 1, 3)", "ell");
    string("substring(s, -2)", "lo");
    string("trim(concat('  ', s, '\\n'))", "Hello");
    string("max_of(s, payload.page_id)", "home");
    integer("length(concat(s, 'é'))", 6);
    integer("length(raw)", 4);
    condition("starts_with(s, 'He') and ends_with(s, 'lo') and contains(s, 'ell')", true);
    condition("contains(s, payload.page_id)", false);
    condition("s < payload.page_id and payload.page_id == 'home' and 'cart' != payload.page_id", true);
    condition("payload.page_id in $names", true);
    condition("payload.page_id not in ['cart']", true);
    condition("_key == 'home' and payload.page_id == raw and _key in ['home']", true);
}

#[test]
fn casts() {
    integer("int('12') + i", 19);
    integer("int(x)", 2);
    integer("int(b)", 1);
    integer("int(w)", 1_767_225_600_123);
    gives("int(s)", DataType::Int64, NULL, NULL);
    gives("int(x * 1e300)", DataType::Int64, NULL, NULL);
    gives("float(string(x))", DataType::Float64, Scalar::Float64(2.5), NULL);
    gives("float('nan')", DataType::Float64, NULL, NULL);
    string("string(i)", "7");
    string("string(x)", "2.5");
    string("string(b)", "true");
    string("string(raw)", "home");
    string("string(w)", "2026-01-01T00:00:00.123Z");
    gives("timestamp(string(w)) == w", DataType::Bool, Scalar::Bool(true), NULL);
    gives("timestamp(i)", DataType::Timestamp, Scalar::Int64(7), NULL);
    gives("timestamp(s)", DataType::Timestamp, NULL, NULL);
    gives("int(null)", DataType::Int64, NULL, NULL);
}

#[test]
fn times() {
    integer("year(w) * 10000 + month(w) * 100 + day(w)", 20_260_101);
    integer("hour(w) + minute(w) + second(w)", 0);
    integer("day_of_week(w)", 4);
    integer("w - timestamp('2026-01-01T01:00:00+01:00')", 123);
    gives("w + 1000 - 1000 == w", DataType::Bool, Scalar::Bool(true), NULL);
    gives("1 + w", DataType::Timestamp, Scalar::Int64(1_767_225_600_124), NULL);
    gives("date_trunc('month', w)", DataType::Timestamp, Scalar::Int64(1_767_225_600_000), NULL);
    condition("w >= timestamp('2026-01-01T00:00:00Z') and w in [timestamp('2026-01-01T00:00:00.123Z')]", true);
}

#[test]
fn nulls() {
    let (yes, no) = (Scalar::Bool(true), Scalar::Bool(false));
    gives("i is null", DataType::Bool, no, yes);
    gives("any is not null", DataType::Bool, yes, no);
    gives("i > 0 or true", DataType::Bool, yes, yes);
    gives("i > 0 and false", DataType::Bool, no, no);
    gives("i > 0 or false", DataType::Bool, yes, NULL);
    gives("not (i > 0)", DataType::Bool, no, NULL);
    gives("i in $none", DataType::Bool, no, NULL);
    gives("if(i > 0, 'pos', 'other')", DataType::String, text("pos"), text("other"));
    gives("if(i > 0, i, null)", DataType::Int64, Scalar::Int64(7), NULL);
    gives("coalesce(i, j, 5)", DataType::Int64, Scalar::Int64(7), Scalar::Int64(5));
    gives("coalesce(null, x, i, 1)", DataType::Float64, Scalar::Float64(2.5), Scalar::Float64(1.0));
    gives("concat(s, 'x') is null", DataType::Bool, no, yes);
    gives("any", DataType::Scalar, text("s:x"), NULL);
    gives("if(true, i, j)", DataType::Int64, Scalar::Int64(7), NULL);
    gives("null is null", DataType::Bool, yes, yes);
}

#[test]
fn an_overflow_counts_only_where_the_value_is_needed() {
    let numbers = [i64::MAX, 5, -5].map(Scalar::Int64);
    let columns = [column(DataType::Int64, &numbers), column(DataType::Int64, &[NULL, NULL, Scalar::Int64(1)])];
    let overflowed = |expression: &str| compile(expression).evaluate(&columns, 3).overflowed;
    assert_eq!(overflowed("i + 1"), [0]);
    assert_eq!(overflowed("i * 2 > 0 or i > 0"), [0]);
    assert_eq!(overflowed("i > 1000 or i * 2 > 0"), [0_u32; 0]);
    assert_eq!(overflowed("i < 1000 and i * 2 > 0"), [0_u32; 0]);
    assert_eq!(overflowed("if(i < 1000, i * 2, 0)"), [0_u32; 0]);
    assert_eq!(overflowed("coalesce(i, i * 2)"), [0_u32; 0]);
    assert_eq!(overflowed("coalesce(j, i * 2)"), [0]);
    assert_eq!(overflowed("coalesce(i * 2, 1)"), [0]);
    assert_eq!(overflowed("float(i) * 1e300"), [0]);
    assert_eq!(overflowed("(i + 1) is null"), [0]);
    let evaluated = compile("(i + 1) is null").evaluate(&columns, 3).column.into_owned();
    assert_eq!((evaluated.get(0), evaluated.get(1)), (NULL, Scalar::Bool(false)));
}

#[test]
fn a_condition_keeps_the_rows_where_it_is_true() {
    let numbers = [Scalar::Int64(i64::MAX), Scalar::Int64(5), NULL, Scalar::Int64(9), Scalar::Int64(i64::MAX)];
    let columns = [column(DataType::Int64, &numbers)];
    let retain = |text: &str, mut keep: [bool; 5]| {
        let condition = Condition::compile(text, &parameters(), &mut Fields::default(), "filter").unwrap();
        let overflowed = condition.retain(&columns, &mut keep);
        (keep, overflowed)
    };
    let all = [true; 5];
    assert_eq!(retain("i + 1 > 6", all), ([false, false, false, true, false], vec![0, 4]));
    assert_eq!(retain("i + 1 > 6", [false, true, true, true, true]), ([false, false, false, true, false], vec![4]));
    assert_eq!(retain("i < 100 and i + 1 > 6", all), ([false, false, false, true, false], vec![]));
    assert_eq!(retain("i + 1 > 6 or true", all), ([false, true, true, true, false], vec![0, 4]));
    assert_eq!(retain("true", all), (all, vec![]));
    assert_eq!(retain("i > 0 and string(null) == 'a'", all), ([false; 5], vec![]));
}

#[test]
fn a_column_is_passed_on_as_it_is() {
    let columns = columns();
    let column = compile("payload.page_id");
    assert_eq!(column.as_column(), Some(5));
    assert!(
        matches!(column.evaluate(&columns, 2).column, Cow::Borrowed(found) if std::ptr::eq(found, &raw const columns[5]))
    );
    assert_eq!(compile("i + 0").as_column(), None);
    assert_eq!(compile("5").evaluate(&[], 3).column.len(), 3);
    assert_eq!(compile("i + 1").evaluate(&[Column::new(DataType::Int64)], 0).column.len(), 0);
}

#[test]
fn undeclared_fields_are_asked_for_with_what_the_place_suggests() {
    let hints = |text: &str| {
        let mut fields = Fields::default();
        let parameters = parameters();
        let compiled = Condition::compile(text, &parameters, &mut fields, "filter");
        compiled.unwrap_or_else(|problems| panic!("{}", problems[0]));
        fields.hints
    };
    assert_eq!(hints("open == 'a'"), [Some(DataType::String)]);
    assert_eq!(hints("3 < open"), [Some(DataType::Float64)]);
    assert_eq!(hints("open in $names"), [Some(DataType::String)]);
    assert_eq!(hints("open"), [Some(DataType::Bool)]);
    assert_eq!(hints("not open and b"), [Some(DataType::Bool)]);
    assert_eq!(hints("open >= timestamp('2026-01-01T00:00:00Z')"), [Some(DataType::Timestamp)]);
    assert_eq!(hints("open == i"), [None, Some(DataType::Int64)]);
    assert_eq!(hints("i == open"), [Some(DataType::Int64)]);
    assert_eq!(hints("open % 2 == 0"), [Some(DataType::Int64)]);
    assert_eq!(hints("open * 2 > 1"), [Some(DataType::Float64)]);
    assert_eq!(hints("lower(open) == s"), [Some(DataType::String)]);
    assert_eq!(hints("coalesce(open, '') == s"), [Some(DataType::String)]);
    assert_eq!(hints("open is null"), [Some(DataType::Scalar)]);
    assert_eq!(hints("open is not null and open > 5"), [Some(DataType::Float64), Some(DataType::Scalar)]);
}

#[test]
fn an_aggregate_has_arguments_and_a_condition() {
    let compile = |text: &str, fields: &mut Fields| AggregateCall::compile(text, &parameters(), fields, "a").unwrap();
    let mut fields = Fields::default();
    let call = compile("sum( i * 2 , x) where i > $limit", &mut fields);
    assert_eq!((call.function.as_str(), call.function_span), ("sum", (0, 3)));
    assert_eq!(call.argument_spans, [(5, 10), (13, 14)]);
    assert_eq!(call.arguments[0].data_type(), DataType::Int64);
    let mut keep = [true; 2];
    assert!(call.condition.unwrap().retain(&columns(), &mut keep).is_empty());
    assert_eq!(keep, [false; 2]);
    assert!(compile("count()", &mut fields).condition.is_none());
    compile("approx_distinct(open)", &mut fields);
    compile("sum(open)", &mut fields);
    compile("count(open) where open == 'a'", &mut fields);
    // A sum shows its argument's type, so nothing is suggested for it.
    let expected = [Some(DataType::Scalar), None, Some(DataType::String), Some(DataType::Scalar)];
    assert_eq!(fields.hints, expected);
}
