//! Requests and answers as bytes: four of length, a header, a body.
//!
//! `connection.rs` gives a stream that keeps a deadline. Invariant: nothing is allocated because an answer says so, but as its bytes
//! come, and never beyond the bound of the caller; who wants room for all at once makes it between the length and the body.

use crate::failure::Cause;
use crate::shape::Answered;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use std::io::{self, Read, Write};
use streamcore::buffer::Buffer;

/// The length and the number of the request that is answered.
const LENGTH_BYTES: usize = 4;
const CORRELATION_BYTES: usize = 4;

/// Why no frame was read.
#[derive(Debug)]
pub enum Unread {
    /// The stream failed.
    Stream(io::Error),
    /// The frame is none, or too large.
    Frame(Cause),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Stream(error)
    }
}

/// Writes the frame of a request over what `frame` had.
///
/// # Errors
/// A field that this version of the request does not have.
pub fn encode<R: Answered>(
    request: &R,
    version: i16,
    correlation: i32,
    client_id: &str,
    frame: &mut BytesMut,
) -> Result<(), Cause> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_string(client_id.to_owned())));
    frame.clear();
    frame.extend_from_slice(&[0; LENGTH_BYTES]);
    let encoded = header.encode(frame, R::header_version(version)).and_then(|()| request.encode(frame, version));
    let bytes = i32::try_from(frame.len() - LENGTH_BYTES);
    match (encoded, bytes) {
        (Ok(()), Ok(bytes)) => {
            frame[..LENGTH_BYTES].copy_from_slice(&bytes.to_be_bytes());
            Ok(())
        }
        (Err(error), _) => Err(Cause::Malformed { request: R::NAME, fault: error.to_string() }),
        (_, Err(error)) => Err(Cause::Malformed { request: R::NAME, fault: error.to_string() }),
    }
}

/// Sends a whole frame.
///
/// # Errors
/// Those of the stream.
pub fn send(stream: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    stream.write_all(frame)?;
    stream.flush()
}

/// Reads how many bytes the next frame has.
///
/// # Errors
/// A stream that fails or ends; a length that cannot be.
pub fn receive_length(stream: &mut impl Read, bytes_max: usize) -> Result<usize, Unread> {
    let mut length = [0; LENGTH_BYTES];
    stream.read_exact(&mut length)?;
    checked_length(length, bytes_max).map_err(Unread::Frame)
}

/// Reads a frame of that many bytes behind what `into` has; gives the number of the request that it answers, which stands at its
/// beginning.
///
/// # Errors
/// A stream that fails or ends.
pub fn receive_body(stream: &mut impl Read, bytes: usize, into: &mut Buffer) -> Result<i32, Unread> {
    let begin = into.len();
    if into.read_from(stream, bytes)? < bytes {
        return Err(Unread::Stream(io::ErrorKind::UnexpectedEof.into()));
    }
    let correlation = into.get(begin..).and_then(|frame| frame.first_chunk()).map(|number| i32::from_be_bytes(*number));
    correlation.ok_or_else(|| Unread::Stream(io::ErrorKind::UnexpectedEof.into()))
}

fn checked_length(length: [u8; LENGTH_BYTES], bytes_max: usize) -> Result<usize, Cause> {
    let bytes = i32::from_be_bytes(length);
    let hint = match length {
        [0x15, 3, ..] => "that is a TLS listener: set security_protocol to ssl or sasl_ssl",
        [b'H', b'T', b'T', b'P'] => "that is an HTTP server: correct the port",
        _ => "look whether that is a Kafka broker, or raise receive.message.max.bytes",
    };
    let whole = usize::try_from(bytes).ok().filter(|whole| (CORRELATION_BYTES..=bytes_max).contains(whole));
    whole.ok_or(Cause::Oversized { bytes: i64::from(bytes), bytes_max, hint })
}

/// Bytes of the header that a frame begins with.
///
/// # Errors
/// A header that cannot be read.
pub fn header_bytes<R: Answered>(frame: &[u8], version: i16) -> Result<usize, Cause> {
    let mut rest = frame;
    ResponseHeader::decode(&mut rest, R::Response::header_version(version))
        .map(|_| frame.len() - rest.len())
        .map_err(|error| malformed::<R>(&error.to_string()))
}

/// Reads the body of an answer.
///
/// # Errors
/// A body that is not as the protocol has it.
pub fn decode<R: Answered>(body: &mut Bytes, version: i16) -> Result<R::Response, Cause> {
    R::SHAPE.check(body, version).map_err(malformed::<R>)?;
    R::Response::decode(body, version).map_err(|error| malformed::<R>(&error.to_string()))
}

fn malformed<R: Answered>(fault: &str) -> Cause {
    Cause::Malformed { request: R::NAME, fault: crate::failure::said(fault) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, MetadataRequest};

    fn receive(stream: &mut impl Read, bytes_max: usize, into: &mut Buffer) -> Result<i32, Unread> {
        let bytes = receive_length(stream, bytes_max)?;
        receive_body(stream, bytes, into)
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        [&(body.len() as i32).to_be_bytes()[..], body].concat()
    }

    #[test]
    fn a_frame_is_read_behind_what_is_there() {
        let mut into = Buffer::from(b"  ".to_vec());
        let correlation = receive(&mut &framed(&[0, 0, 0, 7, 1, 2])[..], 100, &mut into).expect("read");
        assert_eq!((correlation, &into[..]), (7, &[b' ', b' ', 0, 0, 0, 7, 1, 2][..]));
    }

    #[test]
    fn a_frame_cut_at_any_byte_is_an_end() {
        let frame = framed(&[0, 0, 0, 7, 1, 2, 3]);
        for length in 0..frame.len() {
            let read = receive(&mut &frame[..length], 100, &mut Buffer::default());
            assert!(matches!(read, Err(Unread::Stream(error)) if error.kind() == io::ErrorKind::UnexpectedEof));
        }
    }

    #[test]
    fn a_length_beyond_the_bound_takes_no_memory() {
        for (length, hint) in
            [([0x15, 3, 3, 0], "TLS"), (*b"HTTP", "HTTP"), ([0, 0, 1, 0], "raise"), ([0xff; 4], "look")]
        {
            let mut into = Buffer::default();
            let Err(Unread::Frame(cause)) = receive(&mut &length[..], 255, &mut into) else { panic!("{length:?}") };
            assert!(cause.to_string().contains(hint), "{cause}");
            assert_eq!(into.capacity(), 0);
        }
        let mut into = Buffer::default();
        // As large as may be, and not there.
        assert!(receive(&mut &[5, 0, 0, 0, 0][..], 100_000_000, &mut into).is_err());
        assert!(into.capacity() <= 32 << 20, "not room for all of it");
    }

    #[test]
    fn a_request_has_the_header_of_its_version() {
        let mut frame = BytesMut::new();
        let request = MetadataRequest::default().with_topics(Some(Vec::new()));
        encode(&request, 1, 5, "me", &mut frame).expect("encoded");
        let expected = [&[0, 0, 0, 16, 0, 3, 0, 1, 0, 0, 0, 5, 0, 2][..], b"me", &[0, 0, 0, 0]].concat();
        assert_eq!(&frame[..], expected);
        encode(&request, 9, 5, "me", &mut frame).expect("encoded");
        assert_eq!(&frame[16..18], [0, 1], "tagged fields of the header, then a compact array");
        assert!(encode(&request, 99, 5, "me", &mut frame).is_err());
    }

    #[test]
    fn an_answer_is_read_behind_its_header() {
        let mut body_bytes = BytesMut::new();
        ApiVersionsResponse::default().with_error_code(35).encode(&mut body_bytes, 0).expect("encoded");
        let frame = Bytes::from([&[0, 0, 0, 1][..], &body_bytes].concat());
        assert_eq!(header_bytes::<ApiVersionsRequest>(&frame, 0), Ok(4));
        assert_eq!(header_bytes::<MetadataRequest>(&[0, 0, 0, 1, 1, 7, 2, 0, 0, 9], 9), Ok(9), "with a tagged field");
        assert!(header_bytes::<MetadataRequest>(&[0, 0, 0, 1], 9).is_err());
        let mut body = frame.slice(4..);
        assert_eq!(decode::<ApiVersionsRequest>(&mut body, 0).map(|answer| answer.error_code), Ok(35));
        assert!(decode::<MetadataRequest>(&mut Bytes::from_static(&[1]), 8).is_err());
    }
}
