//! The records that are read: kinds that occur in topics, and kinds that hurt.

use crate::draw::Draw;
use streamcore::raw::RawBatch;

/// Bytes of each corpus, about: more than a core has in caches of its own.
const CORPUS_BYTES: usize = 2 << 20;

/// What a wanted field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A whole number.
    Int,
    /// A fraction.
    Float,
}

/// Which fields are wanted, and so which struct the rivals fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The reference event.
    Click,
    /// The same with a field that half of the records lack.
    Traced,
    /// 5 of 20 fields.
    Wide,
    /// An event of a public timeline.
    GitHub,
    /// A text and its number.
    Note,
}

impl Shape {
    /// The wanted fields, by name: the order of the engine's columns.
    #[must_use]
    pub fn fields(self) -> &'static [(&'static str, Kind)] {
        match self {
            Self::Click => &[("event_id", Kind::Text), ("payload.page_id", Kind::Text), ("timestamp", Kind::Text)],
            Self::Traced => &[
                ("event_id", Kind::Text),
                ("payload.page_id", Kind::Text),
                ("timestamp", Kind::Text),
                ("trace", Kind::Text),
            ],
            Self::Wide => &[
                ("f00", Kind::Text),
                ("f04", Kind::Text),
                ("f07", Kind::Int),
                ("f11", Kind::Float),
                ("f19", Kind::Text),
            ],
            Self::GitHub => &[
                ("actor.login", Kind::Text),
                ("created_at", Kind::Text),
                ("payload.action", Kind::Text),
                ("repo.id", Kind::Int),
                ("type", Kind::Text),
            ],
            Self::Note => &[("id", Kind::Int), ("text", Kind::Text)],
        }
    }
}

/// Records of one kind.
pub struct Corpus {
    /// Name of the kind.
    pub name: &'static str,
    /// What is wanted of them.
    pub shape: Shape,
    /// One JSON object each, end to end, as a source hands them over.
    pub raw: RawBatch,
}

impl Corpus {
    fn new(name: &'static str, shape: Shape, mut make: impl FnMut(&mut Draw, u64) -> String) -> Self {
        let (mut draw, mut raw) = (Draw(1), RawBatch::new(0, "bench".into(), 0, CORPUS_BYTES));
        while raw.byte_len() < CORPUS_BYTES {
            let number = raw.len() as u64;
            raw.push(Some(make(&mut draw, number).as_bytes()), number as i64, Some(0)).expect("small");
        }
        raw.seal();
        Self { name, shape, raw }
    }

    /// The records.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.raw.len()).filter_map(|row| self.raw.value(row))
    }

    /// Bytes of all records.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.records().map(<[u8]>::len).sum()
    }
}

/// All kinds.
#[must_use]
pub fn all() -> Vec<Corpus> {
    vec![
        Corpus::new("reference", Shape::Click, |draw, number| object(&click(draw, number))),
        Corpus::new("random order", Shape::Click, |draw, number| {
            let mut members = click(draw, number);
            draw.shuffle(&mut members[..4]); // 24 layouts
            object(&members)
        }),
        Corpus::new("optional fields", Shape::Traced, optional),
        Corpus::new("all different", Shape::Click, |draw, number| {
            let mut members = click(draw, number);
            members.insert(draw.below(5) as usize, (format!("x{:016x}", draw.number()), "1".to_owned()));
            object(&members)
        }),
        Corpus::new("1 KB", Shape::Wide, |draw, _| wide(draw, 52)),
        Corpus::new("10 KB", Shape::Wide, |draw, _| wide(draw, 665)),
        Corpus::new("nested", Shape::GitHub, github),
        Corpus::new("escapes", Shape::Note, |draw, number| {
            note(draw, number, &["\\n", "\\\"", "\\u00e9", "a", "\\\\", "\\t"])
        }),
        Corpus::new("UTF-8", Shape::Note, |draw, number| note(draw, number, &["é", "日本", "a", "Ж", "🙂", "ü "])),
    ]
}

type Members = Vec<(String, String)>;

fn object(members: &[(String, String)]) -> String {
    let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// The reference event of `bench/python/clickstream.py`.
fn click(draw: &mut Draw, number: u64) -> Members {
    let (ident, ms) = (draw.number(), number / 20);
    let (minute, second, ms) = (ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    let payload = format!(
        "{{\"user_id\":\"u{}\",\"page_id\":\"p{}\",\"dwell_ms\":{}}}",
        draw.below(100_000),
        draw.below(1_000),
        draw.below(60_000)
    );
    let address = draw.below(1 << 24);
    let ip = format!("10.{}.{}.{}", address >> 16, address >> 8 & 255, address & 255);
    let ident = format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        ident >> 32,
        ident >> 16 & 0xffff,
        ident & 0xfff,
        ms,
        ident >> 16
    );
    [
        ("event_id", format!("\"{ident}\"")),
        ("event_type", "\"page.view.click.v1\"".to_owned()),
        ("timestamp", format!("\"2026-10-01T12:{minute:02}:{second:02}.{ms:03}Z\"")),
        ("payload", payload),
        ("metadata", format!("{{\"source\":\"web\",\"ip\":\"{ip}\"}}")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// Each of four fields is there or not: 16 layouts.
fn optional(draw: &mut Draw, number: u64) -> String {
    let mut members = click(draw, number);
    for (place, name, value) in
        [(5, "trace", "\"b7ad6b7169203331\""), (3, "retry", "3"), (2, "beta", "true"), (1, "ref", "null")]
    {
        if draw.coin() {
            members.insert(place, (name.to_owned(), value.to_owned()));
        }
    }
    object(&members)
}

/// Twenty fields, their texts of `length` bytes.
fn wide(draw: &mut Draw, length: usize) -> String {
    let mut members = Members::new();
    for number in 0..20 {
        let value = match number {
            7 | 14 => format!("{}", draw.below(1 << 40)),
            11 | 17 => format!("{}.{:03}", draw.below(100_000), draw.below(1_000)),
            13 => draw.coin().to_string(),
            _ => {
                let text: String =
                    (0..length).map(|_| *draw.one_of(&['a', 'e', 'k', 'n', 'o', 'r', 's', ' '])).collect();
                format!("\"{text}\"")
            }
        };
        members.push((format!("f{number:02}"), value));
    }
    object(&members)
}

/// Like an event of GitHub's public timeline.
fn github(draw: &mut Draw, number: u64) -> String {
    let kind = *draw.one_of(&["PushEvent", "WatchEvent", "IssuesEvent", "PullRequestEvent"]);
    let (actor, repo) = (draw.below(1 << 24), draw.below(1 << 28));
    let commits: Vec<String> = (0..=draw.below(3))
        .map(|_| {
            let (sha, author) = (draw.number(), draw.below(9_999));
            format!(
                "{{\"sha\":\"{sha:016x}{sha:016x}\",\"author\":{{\"email\":\"dev{author}@example.org\",\"name\":\"Dev {author}\"}},\
                 \"message\":\"Fix the order of {author} rows\",\"distinct\":true,\"parents\":[{author},[1,2,3]]}}"
            )
        })
        .collect();
    format!(
        "{{\"id\":\"{}\",\"type\":\"{kind}\",\"actor\":{{\"id\":{actor},\"login\":\"user-{actor}\",\"gravatar_id\":\"\",\
         \"avatar_url\":\"https://avatars.example.org/u/{actor}?\"}},\"repo\":{{\"id\":{repo},\"name\":\"org/repo-{repo}\",\
         \"url\":\"https://api.example.org/repos/org/repo-{repo}\"}},\"payload\":{{\"push_id\":{},\"size\":{},\"action\":\"{}\",\
         \"ref\":\"refs/heads/main\",\"commits\":[{}]}},\"public\":true,\"created_at\":\"2026-10-01T12:00:{:02}Z\"}}",
        20_000_000_000 + number,
        draw.below(1 << 34),
        commits.len(),
        draw.one_of(&["opened", "closed", "started", "created"]),
        commits.join(","),
        number % 60
    )
}

/// A text of some of `parts`.
fn note(draw: &mut Draw, number: u64, parts: &[&str]) -> String {
    let text: String = (0..60 + draw.below(60)).map(|_| *draw.one_of(parts)).collect();
    format!("{{\"id\":{number},\"author\":\"u{}\",\"text\":\"{text}\"}}", draw.below(10_000))
}
