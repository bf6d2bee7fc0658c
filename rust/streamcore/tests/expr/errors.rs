//! What a user reads when an expression is wrong, word by word.

use crate::fields::Fields;
use serde_json::json;
use streamcore::expr::{AggregateCall, Condition, Expression, Parameters};

fn parameters() -> Parameters {
    Parameters::from([("limit".into(), json!(5)), ("names".into(), json!(["a", "b"])), ("nothing".into(), json!(null))])
}

/// The problems of a condition, one after the other.
fn refused(text: &str) -> String {
    let problems = Condition::compile(text, &parameters(), &mut Fields::default(), "filter").expect_err(text);
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The problems of a value.
fn refused_value(text: &str) -> String {
    let problems = Expression::compile(text, &parameters(), &mut Fields::default(), None, "select").expect_err(text);
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn other_spellings_are_named() {
    assert_eq!(
        refused("i == 1 && b"),
        "filter: `&&` is not an operator here\n  i == 1 && b\n         ^^\n  hint: write `and`"
    );
    assert_eq!(refused("i = 1"), "filter: `=` is not an operator here\n  i = 1\n    ^\n  hint: write `==`");
    assert_eq!(refused("!b"), "filter: `!` is not an operator here\n  !b\n  ^\n  hint: write `not`");
    assert_eq!(
        refused("b OR b"),
        "filter: expected an operator or the end, found `OR`\n  b OR b\n    ^^\n  hint: write `or`"
    );
    assert_eq!(
        refused("b == True"),
        "filter: `True` is not a word of the language\n  b == True\n       ^^^^\n  hint: write `true`; a field of that name is \
         written `True` in backquotes"
    );
    assert_eq!(
        refused("s in ('a', 'b')"),
        "filter: expected a list, found `(`\n  s in ('a', 'b')\n       ^\n  hint: a list is written `[1, 2]` or `$name`"
    );
}

#[test]
fn what_is_missing_is_pointed_at() {
    assert_eq!(refused("(b"), "filter: expected an operator or `)`, found the end\n  (b\n    ^");
    assert_eq!(refused("i >"), "filter: expected a value, found the end\n  i >\n     ^");
    assert_eq!(refused(""), "filter: expected a value, found the end\n  \n  ^");
    assert_eq!(
        refused("1 < i < 5"),
        "filter: comparisons cannot be chained\n  1 < i < 5\n        ^\n  hint: join two comparisons with `and`, or put one \
         in parentheses"
    );
    assert_eq!(
        refused("s == 'é' 'b'"),
        "filter: expected an operator or the end, found a string\n  s == 'é' 'b'\n           ^^^"
    );
}

#[test]
fn unknown_names_come_with_a_guess() {
    assert_eq!(
        refused("payload.pageid == 'a'"),
        "filter: there is no field `payload.pageid`; did you mean `payload.page_id`?\n  payload.pageid == 'a'\n  ^^^^^^^^^^^^^^"
    );
    assert_eq!(
        refused("lenght(s) > 1"),
        "filter: there is no function `lenght`\n  lenght(s) > 1\n  ^^^^^^\n  hint: did you mean `length`?"
    );
    let unknown = refused("foo(s) > 1");
    assert!(unknown.contains("hint: there are if, coalesce, min_of"), "{unknown}");
    assert_eq!(
        refused("count() > 1"),
        "filter: there is no function `count`\n  count() > 1\n  ^^^^^\n  hint: `count` is an aggregate: it belongs in a \
         window's aggregates"
    );
    assert_eq!(
        refused("i > $limt"),
        "filter: no value is given for parameter `limt`\n  i > $limt\n      ^^^^^\n  hint: did you mean `$limit`?"
    );
    assert_eq!(
        refused("_partitoin == 1"),
        "filter: there is no record part `_partitoin`\n  _partitoin == 1\n  ^^^^^^^^^^\n  hint: did you mean `_partition`? A \
         field of that name is written `_partitoin` in backquotes"
    );
}

#[test]
fn every_type_mistake_is_found_at_once() {
    assert_eq!(
        refused("i == '500' and lower(i) == s or not w > '2026-01-01T00:00:00Z'"),
        "filter: `i` is int64 and `'500'` is string: they cannot be compared\n  \
         i == '500' and lower(i) == s or not w > '2026-01-01T00:00:00Z'\n  \
         ^^^^^^^^^^\n  hint: write the number without quotes, or `string(i)`\n\
         filter: `lower` takes string here, and `i` is int64\n  \
         i == '500' and lower(i) == s or not w > '2026-01-01T00:00:00Z'\n  \
         \u{20}                    ^\n  hint: write `string(i)`\n\
         filter: `w` is timestamp and `'2026-01-01T00:00:00Z'` is string: they cannot be compared\n  \
         i == '500' and lower(i) == s or not w > '2026-01-01T00:00:00Z'\n  \
         \u{20}                                   ^^^^^^^^^^^^^^^^^^^^^^^^^^\n  \
         hint: write `timestamp('2026-01-01T00:00:00Z')`"
    );
}

#[test]
fn each_kind_of_mismatch_says_how_to_go_on() {
    let hint = |text: &str| refused(text).rsplit_once("hint: ").map(|(_, hint)| hint.to_owned()).unwrap();
    assert_eq!(hint("s > 5"), "write `float(s)`");
    assert_eq!(hint("w > 5"), "write `int(w)` for milliseconds since 1970");
    assert_eq!(hint("w == s"), "write `timestamp(s)`, or give both sides as text");
    assert_eq!(hint("x > d"), "write `float(d)`, which may round");
    assert_eq!(hint("b == 1"), "convert one side with `string(...)`, `int(...)` or `float(...)`");
    assert_eq!(hint("any == 'a'"), "declare the field's type in `[source.schema]`");
    assert_eq!(hint("b < true"), "use `==`, `!=`, `and`, `or`, `not`");
    assert_eq!(hint("i == null"), "write `i is null`");
    assert_eq!(hint("null != i"), "write `i is not null`");
    assert_eq!(hint("s"), "compare it with something, or test it: `s is not null`");
    assert_eq!(hint("s + s == s"), "text is joined with `concat(s, s)`");
    assert_eq!(hint("x // i > 1.0"), "write `floor(x / i)`, or convert to int64 with `int(...)`");
    assert_eq!(
        hint("w + x > w"),
        "a timestamp takes `+` and `-` with an int64 of milliseconds, and `-` with a timestamp"
    );
    assert_eq!(hint("x + d > d"), "convert the decimal with `float(...)`, which may round");
    assert_eq!(hint("-b"), "write `not`");
    assert_eq!(hint("year(s) == 1"), "write `timestamp(s)`");
    assert_eq!(hint("int(raw) == 1"), "write `int(string(raw))`");
    assert_eq!(hint("if(b, i, s) == 1"), "write `float(s)`");
    assert_eq!(hint("max_of(b, b)"), "use `and` and `or`");
    assert_eq!(hint("substring(s) == s"), "write `substring(text, start, length?)`");
    assert_eq!(
        hint("date_trunc('fortnight', w) == w"),
        "the units are 'second' 'minute' 'hour' 'day' 'week' 'month' 'quarter' 'year'"
    );
}

#[test]
fn lists_hold_constants_of_one_kind() {
    assert_eq!(
        refused("i in [1, 'a', 3]"),
        "filter: `i` is int64 and `'a'` is string: they cannot be compared\n  i in [1, 'a', 3]\n           ^^^\n  hint: write \
         the number without quotes, or `string(i)`"
    );
    assert_eq!(
        refused("i in [1, j]"),
        "filter: the elements of a list are constants, and none is null\n  i in [1, j]\n           ^\n  hint: join \
         comparisons with `or` instead"
    );
    assert_eq!(
        refused("i in $limit"),
        "filter: parameter `limit` is not a list\n  i in $limit\n       ^^^^^^\n  hint: pass a list, or write `== $limit`"
    );
    assert_eq!(
        refused("s == $names"),
        "filter: parameter `names` is a list\n  s == $names\n       ^^^^^^\n  hint: a list can only stand after `in`: `x in \
         $names`"
    );
    assert_eq!(
        refused("s == $nothing"),
        "filter: parameter `nothing` holds null\n  s == $nothing\n       ^^^^^^^^\n  hint: pass a bool, a number, a string, \
         or a list of those"
    );
}

#[test]
fn constants_that_cannot_be_are_refused_at_once() {
    assert_eq!(
        refused_value("9223372036854775807 + 1"),
        "select: `9223372036854775807 + 1` does not fit int64\n  9223372036854775807 + 1\n  ^^^^^^^^^^^^^^^^^^^^^^^"
    );
    assert_eq!(
        refused_value("9223372036854775808"),
        "select: this integer does not fit int64\n  9223372036854775808\n  ^^^^^^^^^^^^^^^^^^^\n  hint: write it with a point \
         (`1.0`) for a float64"
    );
    assert_eq!(
        refused_value("timestamp('2026-01-01')"),
        "select: '2026-01-01' is not an ISO-8601 time with a zone\n  timestamp('2026-01-01')\n            ^^^^^^^^^^^^\n  \
         hint: write it like '2026-01-01T00:00:00Z'"
    );
    assert_eq!(
        refused_value("null"),
        "select: the type of this null is not known\n  null\n  ^^^^\n  hint: write `string(null)` or the like"
    );
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = format!("{}b{}", "(".repeat(65), ")".repeat(65));
    assert!(refused(&deep).starts_with("filter: the expression is nested more than 64 deep\n"));
    assert!(
        refused(&"not ".repeat(100_000)[..16_000]).starts_with("filter: the expression is nested more than 64 deep\n")
    );
    let sum = vec!["i"; 65].join(" + ");
    assert!(refused_value(&sum).starts_with("select: the expression is nested more than 64 deep\n"));
    let chain = vec!["b"; 2_000].join(" or ");
    assert!(Condition::compile(&chain, &Parameters::new(), &mut Fields::default(), "filter").is_ok());
    assert_eq!(
        refused(&"b".repeat(16_385)),
        "filter: the expression is 16385 bytes long, and the limit is 16384\n  hint: pass long lists as a parameter: `x in \
         $list`"
    );
}

#[test]
fn aggregates_are_calls() {
    let refused = |text: &str| {
        let problems = AggregateCall::compile(text, &parameters(), &mut Fields::default(), "views").expect_err(text);
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(
        refused("count(*)"),
        "views: expected an argument, found `*`\n  count(*)\n        ^\n  hint: write `count()`"
    );
    assert_eq!(
        refused("i + 1"),
        "views: expected `(` after `i`, found `+`\n  i + 1\n    ^\n  hint: an aggregate is a call: `count()`"
    );
    assert_eq!(refused("count() if b"), "views: expected `where` or the end, found `if`\n  count() if b\n          ^^");
    assert_eq!(
        refused("sum(lower(i)) where s"),
        "views: `lower` takes string here, and `i` is int64\n  sum(lower(i)) where s\n            ^\n  hint: write `string(i)`\n\
         views: a condition is needed here, and `s` is string\n  sum(lower(i)) where s\n                      ^\n  hint: \
         compare it with something, or test it: `s is not null`"
    );
}
