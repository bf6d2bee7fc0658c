//! What the answers of brokers look like, as far as memory is concerned.
//!
//! The decoder of kafka-protocol reserves memory for as many elements as an array says that it has, before it looks for them: nine
//! bytes can ask for hundreds of gigabytes, which ends the process. So `wire.rs` has each answer walked here first. Invariant: an
//! answer that passes has every element that it counts.

use kafka_protocol::messages::{
    ApiVersionsRequest, FetchRequest, ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest,
    SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::Request;

/// A request whose answer is known here.
pub trait Answered: Request {
    /// Its name in Kafka's protocol.
    const NAME: &'static str;
    /// What its answer looks like.
    const SHAPE: Shape;
}

/// What an answer looks like in all its versions.
#[derive(Debug)]
pub struct Shape {
    /// The first version with compact lengths and tagged fields.
    flexible: i16,
    /// What it has, in order.
    parts: &'static [Part],
}

/// Part of an answer.
#[derive(Debug)]
enum Part {
    /// So many bytes.
    Fixed(usize),
    /// A string.
    Text,
    /// Bytes.
    Octets,
    /// An array of such elements.
    Many(&'static [Part]),
    /// What the versions between two have.
    Within(i16, i16, &'static Part),
    /// Tagged fields, with those that the decoder knows; flexible versions alone have any.
    Tags(&'static [(u32, &'static [Part])]),
}

use Part::{Fixed, Many, Octets, Tags, Text, Within};

/// No version is as high.
const LAST: i16 = i16::MAX;
const NO_TAGS: Part = Tags(&[]);

impl Answered for ApiVersionsRequest {
    const NAME: &'static str = "ApiVersions";
    const SHAPE: Shape = Shape {
        flexible: 3,
        parts: &[
            Fixed(2),
            Many(&[Fixed(4 + 2), NO_TAGS]),
            Within(1, LAST, &Fixed(4)),
            Tags(&[
                (0, &[Many(&[Text, Fixed(4), NO_TAGS])]),
                (1, &[Fixed(8)]),
                (2, &[Many(&[Text, Fixed(4), NO_TAGS])]),
                (3, &[Fixed(1)]),
            ]),
        ],
    };
}

impl Answered for SaslHandshakeRequest {
    const NAME: &'static str = "SaslHandshake";
    const SHAPE: Shape = Shape { flexible: LAST, parts: &[Fixed(2), Many(&[Text])] };
}

impl Answered for SaslAuthenticateRequest {
    const NAME: &'static str = "SaslAuthenticate";
    const SHAPE: Shape = Shape { flexible: 2, parts: &[Fixed(2), Text, Octets, Within(1, LAST, &Fixed(8)), NO_TAGS] };
}

impl Answered for MetadataRequest {
    const NAME: &'static str = "Metadata";
    const SHAPE: Shape = Shape {
        flexible: 9,
        parts: &[
            Within(3, LAST, &Fixed(4)),
            Many(&[Fixed(4), Text, Fixed(4), Within(1, LAST, &Text), NO_TAGS]),
            Within(2, LAST, &Text),
            Within(1, LAST, &Fixed(4)),
            Many(&[
                Fixed(2),
                Text,
                Within(10, LAST, &Fixed(16)),
                Within(1, LAST, &Fixed(1)),
                Many(&[
                    Fixed(2 + 4 + 4),
                    Within(7, LAST, &Fixed(4)),
                    Many(&[Fixed(4)]),
                    Many(&[Fixed(4)]),
                    Within(5, LAST, &Many(&[Fixed(4)])),
                    NO_TAGS,
                ]),
                Within(8, LAST, &Fixed(4)),
                NO_TAGS,
            ]),
            Within(8, 10, &Fixed(4)),
            Within(13, LAST, &Fixed(2)),
            NO_TAGS,
        ],
    };
}

impl Answered for ListOffsetsRequest {
    const NAME: &'static str = "ListOffsets";
    const SHAPE: Shape = Shape {
        flexible: 6,
        parts: &[
            Within(2, LAST, &Fixed(4)),
            Many(&[Text, Many(&[Fixed(4 + 2 + 8 + 8), Within(4, LAST, &Fixed(4)), NO_TAGS]), NO_TAGS]),
            NO_TAGS,
        ],
    };
}

impl Answered for OffsetForLeaderEpochRequest {
    const NAME: &'static str = "OffsetForLeaderEpoch";
    const SHAPE: Shape = Shape {
        flexible: 4,
        parts: &[
            Within(2, LAST, &Fixed(4)),
            Many(&[Text, Many(&[Fixed(2 + 4), Within(1, LAST, &Fixed(4)), Fixed(8), NO_TAGS]), NO_TAGS]),
            NO_TAGS,
        ],
    };
}

impl Answered for FetchRequest {
    const NAME: &'static str = "Fetch";
    const SHAPE: Shape = Shape {
        flexible: 12,
        parts: &[
            Within(1, LAST, &Fixed(4)),
            Within(7, LAST, &Fixed(2 + 4)),
            Many(&[
                Within(0, 12, &Text),
                Within(13, LAST, &Fixed(16)),
                Many(&[
                    Fixed(4 + 2 + 8),
                    Within(4, LAST, &Fixed(8)),
                    Within(5, LAST, &Fixed(8)),
                    Within(4, LAST, &Many(&[Fixed(16), NO_TAGS])),
                    Within(11, LAST, &Fixed(4)),
                    Octets,
                    Tags(&[(0, &[Fixed(12), NO_TAGS]), (1, &[Fixed(8), NO_TAGS]), (2, &[Fixed(12), NO_TAGS])]),
                ]),
                NO_TAGS,
            ]),
            Tags(&[(0, &[Many(&[Fixed(4), Text, Fixed(4), Text, NO_TAGS])])]),
        ],
    };
}

impl Shape {
    /// Walks the answer without its header. What is behind it is left alone.
    ///
    /// # Errors
    /// What is not there.
    pub fn check(&self, answer: &[u8], version: i16) -> Result<(), &'static str> {
        let mut walk = Walk { rest: answer, version, is_flexible: version >= self.flexible };
        walk.pass(self.parts)
    }
}

/// How far an answer was walked. Who reads an answer in place goes through it by this as well.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    /// What comes next.
    pub rest: &'a [u8],
    /// The version that the answer is in.
    pub version: i16,
    /// Whether that has compact lengths and tagged fields.
    pub is_flexible: bool,
}

impl<'a> Walk<'a> {
    fn pass(&mut self, parts: &'static [Part]) -> Result<(), &'static str> {
        parts.iter().try_for_each(|part| self.pass_one(part))
    }

    fn pass_one(&mut self, part: &'static Part) -> Result<(), &'static str> {
        match part {
            Fixed(bytes) => self.take(*bytes).map(drop),
            Text => self.text().map(drop),
            Octets => self.octets().map(drop),
            Many(element) => (0..self.count()?).try_for_each(|_| self.pass(element)),
            Within(first, last, part) if (*first..=*last).contains(&self.version) => self.pass_one(part),
            Tags(known) if self.is_flexible => self.pass_tags(known),
            Within(..) | Tags(_) => Ok(()),
        }
    }

    fn pass_tags(&mut self, known: &'static [(u32, &'static [Part])]) -> Result<(), &'static str> {
        for _ in 0..self.varint()? {
            let (tag, bytes) = (self.varint()?, self.varint()?);
            let field = self.take(bytes as usize)?;
            if let Some((_, parts)) = known.iter().find(|(known, _)| *known == tag) {
                // The decoder reads from the field on, whatever its length says: it must not read more than we do here.
                let mut within = Self { rest: field, ..*self };
                within.pass(parts)?;
                if !within.rest.is_empty() {
                    return Err("a tagged field is longer than its parts");
                }
            }
        }
        Ok(())
    }

    /// A string; one that is null is empty.
    pub fn text(&mut self) -> Result<&'a [u8], &'static str> {
        let bytes = if self.is_flexible { self.compact_length()? } else { self.length::<2>()? };
        self.take(bytes)
    }

    /// Bytes; those that are null are empty.
    pub fn octets(&mut self) -> Result<&'a [u8], &'static str> {
        let bytes = self.count()?;
        self.take(bytes)
    }

    /// How many elements an array says that it has, or bytes a field of bytes.
    pub fn count(&mut self) -> Result<usize, &'static str> {
        if self.is_flexible { self.compact_length() } else { self.length::<4>() }
    }

    /// A number of `N` bytes.
    pub fn number<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        self.take(N)?.first_chunk().copied().ok_or("it ends in the middle")
    }

    /// So many bytes.
    pub fn take(&mut self, bytes: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or("it ends in the middle")?;
        self.rest = rest;
        Ok(taken)
    }

    /// A length of `N` bytes; nothing, -1, has none.
    fn length<const N: usize>(&mut self) -> Result<usize, &'static str> {
        let bytes = self.take(N)?;
        let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
        if is_negative {
            return if bytes.iter().all(|byte| *byte == 0xff) { Ok(0) } else { Err("a length is negative") };
        }
        Ok(bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }

    /// One less than what is written; nothing, 0, has none.
    fn compact_length(&mut self) -> Result<usize, &'static str> {
        Ok((self.varint()? as usize).saturating_sub(1))
    }

    /// A number of up to 32 bits, seven a byte.
    pub fn varint(&mut self) -> Result<u32, &'static str> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1)?.first().copied().unwrap_or_default();
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| "a number is too large");
            }
        }
        Err("a number is too long")
    }
}

#[cfg(test)]
mod tests;
