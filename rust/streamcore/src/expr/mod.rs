//! The expression language of `filter`, `select`, `where`, group keys and aggregates.
