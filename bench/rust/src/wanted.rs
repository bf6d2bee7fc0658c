//! The wanted fields as structs, for those that read through serde.

use crate::columns::{push_float, push_int, push_text};
use serde::Deserialize;
use std::borrow::Cow;
use streamcore::batch::Column;

/// The wanted values of a record.
pub trait Wanted {
    /// Appends them to the columns.
    fn push(&self, columns: &mut [Column]);
}

/// A text, borrowed where nothing is escaped: serde borrows no `Cow` inside an `Option` by itself.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn text(column: &mut Column, value: Option<&Text<'_>>) {
    push_text(column, value.map(|text| &*text.0));
}

#[derive(Deserialize)]
pub struct Click<'a> {
    #[serde(borrow)]
    event_id: Option<Text<'a>>,
    #[serde(borrow)]
    timestamp: Option<Text<'a>>,
    #[serde(borrow)]
    payload: Payload<'a>,
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    page_id: Option<Text<'a>>,
}

impl Wanted for Click<'_> {
    fn push(&self, columns: &mut [Column]) {
        text(&mut columns[0], self.event_id.as_ref());
        text(&mut columns[1], self.payload.page_id.as_ref());
        text(&mut columns[2], self.timestamp.as_ref());
    }
}

#[derive(Deserialize)]
pub struct Traced<'a> {
    #[serde(borrow)]
    event_id: Option<Text<'a>>,
    #[serde(borrow)]
    timestamp: Option<Text<'a>>,
    #[serde(borrow)]
    payload: Payload<'a>,
    #[serde(borrow)]
    trace: Option<Text<'a>>,
}

impl Wanted for Traced<'_> {
    fn push(&self, columns: &mut [Column]) {
        text(&mut columns[0], self.event_id.as_ref());
        text(&mut columns[1], self.payload.page_id.as_ref());
        text(&mut columns[2], self.timestamp.as_ref());
        text(&mut columns[3], self.trace.as_ref());
    }
}

#[derive(Deserialize)]
pub struct Wide<'a> {
    #[serde(borrow)]
    f00: Option<Text<'a>>,
    #[serde(borrow)]
    f04: Option<Text<'a>>,
    f07: Option<i64>,
    f11: Option<f64>,
    #[serde(borrow)]
    f19: Option<Text<'a>>,
}

impl Wanted for Wide<'_> {
    fn push(&self, columns: &mut [Column]) {
        text(&mut columns[0], self.f00.as_ref());
        text(&mut columns[1], self.f04.as_ref());
        push_int(&mut columns[2], self.f07);
        push_float(&mut columns[3], self.f11);
        text(&mut columns[4], self.f19.as_ref());
    }
}

#[derive(Deserialize)]
pub struct GitHub<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    actor: Actor<'a>,
    repo: Repo,
    #[serde(borrow)]
    payload: Action<'a>,
    #[serde(borrow)]
    created_at: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Actor<'a> {
    #[serde(borrow)]
    login: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Repo {
    id: Option<i64>,
}

#[derive(Deserialize)]
struct Action<'a> {
    #[serde(borrow)]
    action: Option<Text<'a>>,
}

impl Wanted for GitHub<'_> {
    fn push(&self, columns: &mut [Column]) {
        text(&mut columns[0], self.actor.login.as_ref());
        text(&mut columns[1], self.created_at.as_ref());
        text(&mut columns[2], self.payload.action.as_ref());
        push_int(&mut columns[3], self.repo.id);
        text(&mut columns[4], self.kind.as_ref());
    }
}

#[derive(Deserialize)]
pub struct Note<'a> {
    id: Option<i64>,
    #[serde(borrow)]
    text: Option<Text<'a>>,
}

impl Wanted for Note<'_> {
    fn push(&self, columns: &mut [Column]) {
        push_int(&mut columns[0], self.id);
        text(&mut columns[1], self.text.as_ref());
    }
}
