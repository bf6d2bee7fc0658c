//! A broker for tests, which says what a test has it say.
//!
//! Invariant: it listens on a free port of this machine alone, and each connection is a thread that ends with it.

use crate::config::{Address, Config};
use crate::shape::Answered;
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsResponse, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request that came in.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which request.
    pub key: i16,
    /// Its version.
    pub version: i16,
    /// Its number.
    pub correlation: i32,
    /// What is behind its header.
    pub body: Bytes,
}

impl Call {
    /// The answer in the version that was asked for.
    pub fn answer<R: Answered>(&self, answer: &R::Response) -> Reply {
        self.answer_in::<R>(answer, self.version)
    }

    /// The same in a version.
    pub fn answer_in<R: Answered>(&self, answer: &R::Response, version: i16) -> Reply {
        let mut frame = BytesMut::from(&[0; 4][..]);
        let header = ResponseHeader::default().with_correlation_id(self.correlation);
        header.encode(&mut frame, R::Response::header_version(version)).expect("encoded");
        answer.encode(&mut frame, version).expect("encoded");
        let bytes = frame.len() as i32 - 4;
        frame[..4].copy_from_slice(&bytes.to_be_bytes());
        Reply::Say(frame.to_vec())
    }

    /// The request, read.
    pub fn request<R: Answered>(&self) -> R {
        R::decode(&mut self.body.clone(), self.version).expect("decoded")
    }
}

/// What is said to it.
#[derive(Debug, Clone)]
pub enum Reply {
    /// These bytes.
    Say(Vec<u8>),
    /// These bytes one by one, with a pause behind each.
    Drip(Vec<u8>, Duration),
    /// These bytes, and the end.
    SayAndClose(Vec<u8>),
    /// Nothing, and the connection stays.
    Nothing,
}

/// The versions that a broker says it speaks: for each key the first and the last.
pub fn versions(keys: &[(i16, i16, i16)]) -> ApiVersionsResponse {
    let key = |&(key, min, max): &(i16, i16, i16)| {
        ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max)
    };
    ApiVersionsResponse::default().with_api_keys(keys.iter().map(key).collect())
}

/// All versions of a request that kafka-protocol has.
pub fn all<R: Request>() -> (i16, i16, i16) {
    let versions = <R as Message>::VERSIONS;
    (R::KEY, versions.min, versions.max)
}

/// A broker that listens.
#[derive(Debug)]
pub struct Scripted {
    /// Where.
    pub address: Address,
    /// What came in, by key and version.
    calls: Arc<Mutex<Vec<(i16, i16)>>>,
}

impl Scripted {
    /// Starts one that replies by `reply`.
    pub fn start(reply: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = Address::new("127.0.0.1", listener.local_addr().expect("bound").port());
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (log, reply) = (Arc::clone(&calls), Arc::new(reply));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, reply) = (Arc::clone(&log), Arc::clone(&reply));
                let stream = stream.expect("accepted");
                std::thread::spawn(move || serve(stream, &log, &*reply));
            }
        });
        Self { address, calls }
    }

    /// Settings that lead there, with short times.
    pub fn config(&self) -> Config {
        let short = Duration::from_secs(5);
        Config {
            bootstrap: vec![self.address.clone()],
            setup_timeout: short,
            request_timeout: short,
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_millis(2),
            answer_bytes_max: 1 << 20,
            ..Config::default()
        }
    }

    /// What came in so far, by key and version.
    pub fn calls(&self) -> Vec<(i16, i16)> {
        self.calls.lock().expect("no panic").clone()
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<(i16, i16)>>, reply: &dyn Fn(&Call) -> Reply) {
    while let Some(call) = read(&mut stream) {
        log.lock().expect("no panic").push((call.key, call.version));
        let said = match reply(&call) {
            Reply::Say(bytes) => stream.write_all(&bytes),
            Reply::Nothing => Ok(()),
            Reply::Drip(bytes, pause) => bytes.iter().try_for_each(|byte| {
                std::thread::sleep(pause);
                stream.write_all(&[*byte])
            }),
            Reply::SayAndClose(bytes) => {
                let _ = stream.write_all(&bytes);
                return;
            }
        };
        if said.is_err() {
            return;
        }
    }
}

fn read(stream: &mut TcpStream) -> Option<Call> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame).ok()?;
    let mut body = Bytes::from(frame);
    let (key, version) = (body.slice(..2).get_i16(), body.slice(2..4).get_i16());
    let api = kafka_protocol::messages::ApiKey::try_from(key).expect("a known request");
    let header = RequestHeader::decode(&mut body, api.request_header_version(version)).expect("a header");
    Some(Call { key, version, correlation: header.correlation_id, body })
}
