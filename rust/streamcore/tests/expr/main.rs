//! The expression language through its public interface.
//!
//! `errors` holds what a user reads, `meaning` what each construct gives, `model` compares random
//! expressions with a row-by-row interpreter.

mod errors;
mod fields;
mod interpreter;
mod meaning;
mod model;
