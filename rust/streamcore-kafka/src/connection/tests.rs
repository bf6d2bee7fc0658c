//! Connections to a scripted broker: cut, slow, lying, and with logins.

use super::*;
use crate::config::{Address, ScramHash, User};
use crate::scripted::{Call, Reply, Scripted, all, versions};
use crate::secret::Secret;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::Request;

const CANARY: &str = "canary-password";

fn open(config: Config) -> Result<Connection> {
    let address = config.bootstrap[0].clone();
    Dialer::new(config)?.open(&address)
}

fn say(reply: Reply) -> Vec<u8> {
    match reply {
        Reply::Say(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

/// A broker that knows versions, and replies to Metadata by `reply`.
fn metadata(reply: impl Fn(&Call, Vec<u8>) -> Reply + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |call| match call.key {
        ApiVersionsRequest::KEY => call.answer::<ApiVersionsRequest>(&versions(&[all::<MetadataRequest>()])),
        _ => reply(call, say(call.answer::<MetadataRequest>(&MetadataResponse::default()))),
    })
}

fn ask(connection: &mut Connection) -> Result<MetadataResponse> {
    connection.call(&MetadataRequest::default())
}

#[test]
fn a_request_goes_in_the_newest_version_of_both_sides() {
    let broker = Scripted::start(|call| match call.key {
        ApiVersionsRequest::KEY => call.answer::<ApiVersionsRequest>(&versions(&[(MetadataRequest::KEY, 0, 8)])),
        _ => call.answer::<MetadataRequest>(&MetadataResponse::default().with_controller_id(7.into())),
    });
    let mut connection = open(broker.config()).expect("open");
    assert_eq!(ask(&mut connection).map(|answer| answer.controller_id.0), Ok(7));
    assert_eq!(broker.calls(), [(ApiVersionsRequest::KEY, 4), (MetadataRequest::KEY, 8)]);
    let failure = connection.version::<SaslHandshakeRequest>().expect_err("not spoken");
    assert!(failure.to_string().contains("speaks SaslHandshake none and this client 0..1"), "{failure}");
    assert!(connection.is_usable());
}

#[test]
fn an_old_broker_is_asked_again_in_the_oldest_version() {
    let broker = Scripted::start(|call| match (call.key, call.version) {
        (ApiVersionsRequest::KEY, 1..) => {
            let answer = ApiVersionsResponse::default().with_error_code(ResponseError::UnsupportedVersion.code());
            call.answer_in::<ApiVersionsRequest>(&answer, 0)
        }
        (ApiVersionsRequest::KEY, _) => call.answer::<ApiVersionsRequest>(&versions(&[(MetadataRequest::KEY, 0, 1)])),
        _ => call.answer::<MetadataRequest>(&MetadataResponse::default()),
    });
    let mut connection = open(broker.config()).expect("open");
    assert!(ask(&mut connection).is_ok());
    assert_eq!(broker.calls(), [(ApiVersionsRequest::KEY, 4), (ApiVersionsRequest::KEY, 0), (MetadataRequest::KEY, 1)]);
}

#[test]
fn an_answer_cut_at_any_byte_is_a_closed_connection() {
    let whole = say(Call { key: 3, version: 13, correlation: 2, body: Bytes::new() }
        .answer::<MetadataRequest>(&MetadataResponse::default()));
    for length in 0..whole.len() {
        let broker = metadata(move |_, mut answer| {
            answer.truncate(length);
            Reply::SayAndClose(answer)
        });
        let mut connection = open(broker.config()).expect("open");
        let failure = ask(&mut connection).expect_err("cut");
        assert!(matches!(*failure.cause, Cause::Closed { .. }) && failure.is_passing(), "{length}: {failure}");
        assert!(!connection.is_usable());
        let again = ask(&mut connection).expect_err("broken");
        assert!(again.to_string().contains("a request before this one failed"), "{again}");
    }
}

#[test]
fn an_answer_that_comes_byte_by_byte_is_read_and_has_a_deadline_all_the_same() {
    let broker = metadata(|_, answer| Reply::Drip(answer, Duration::from_millis(10)));
    let mut connection = open(broker.config()).expect("open");
    assert!(ask(&mut connection).is_ok());
    // About 25 bytes, and each comes in time: together they do not.
    let started = Instant::now();
    let version = connection.version::<MetadataRequest>().expect("spoken");
    let deadline = started + Duration::from_millis(60);
    let failure = connection.call_at(&MetadataRequest::default(), version, deadline).expect_err("late");
    assert!(matches!(*failure.cause, Cause::Timeout { doing: "Metadata", .. }), "{failure}");
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn answers_that_cannot_be_are_named() {
    let fault = |change: fn(&mut Vec<u8>)| {
        let broker = metadata(move |_, mut answer| {
            change(&mut answer);
            Reply::Say(answer)
        });
        let mut connection = open(broker.config()).expect("open");
        let failure = ask(&mut connection).expect_err("refused");
        assert!(!connection.is_usable());
        *failure.cause
    };
    let too_long = fault(|answer| answer[..4].copy_from_slice(&[0x15, 3, 3, 0]));
    assert!(matches!(too_long, Cause::Oversized { bytes: 0x1503_0300, hint, .. } if hint.contains("TLS")));
    assert_eq!(fault(|answer| answer[7] ^= 64), Cause::Correlation { sent: 2, found: 66 });
    let lie = fault(|answer| answer[13..18].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]));
    assert!(matches!(lie, Cause::Malformed { request: "Metadata", .. }), "{lie}");
}

#[test]
fn nobody_there_and_no_such_name() {
    let broker = metadata(|_, answer| Reply::Say(answer));
    let mut config = broker.config();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("bound").port();
    config.bootstrap = vec![Address::new("127.0.0.1", free)];
    let failure = open(config.clone()).map(|_| ()).expect_err("nobody");
    assert_eq!(*failure.cause, Cause::Refused);
    config.bootstrap = vec![Address::new("no\0name", 1)];
    let failure = open(config).map(|_| ()).expect_err("no name");
    assert!(matches!(*failure.cause, Cause::Name(_)), "{failure}");
}

/// A broker that lets a user in by PLAIN whose password is `CANARY`, for sessions of a second and a half.
fn with_login() -> Scripted {
    Scripted::start(|call| match call.key {
        ApiVersionsRequest::KEY => {
            let login = [all::<SaslHandshakeRequest>(), all::<SaslAuthenticateRequest>(), all::<MetadataRequest>()];
            call.answer::<ApiVersionsRequest>(&versions(&login))
        }
        SaslHandshakeRequest::KEY => {
            let wanted = call.request::<SaslHandshakeRequest>().mechanism;
            let error = if &*wanted == "PLAIN" { 0 } else { ResponseError::UnsupportedSaslMechanism.code() };
            let answer = kafka_protocol::messages::SaslHandshakeResponse::default().with_error_code(error);
            call.answer::<SaslHandshakeRequest>(&answer.with_mechanisms(vec![StrBytes::from_static_str("PLAIN")]))
        }
        SaslAuthenticateRequest::KEY => {
            let bytes = call.request::<SaslAuthenticateRequest>().auth_bytes;
            let is_right = bytes == format!("\0alice\0{CANARY}").as_bytes();
            let answer = SaslAuthenticateResponse::default().with_session_lifetime_ms(1_500);
            // Some broker repeats what it was told.
            let said = StrBytes::from_string(format!("no {}", String::from_utf8_lossy(&bytes)));
            let refused = answer.clone().with_error_code(58).with_error_message(Some(said));
            call.answer::<SaslAuthenticateRequest>(if is_right { &answer } else { &refused })
        }
        _ => call.answer::<MetadataRequest>(&MetadataResponse::default()),
    })
}

fn user(password: &str) -> User {
    User { name: "alice".into(), password: Secret::new(password) }
}

#[test]
fn a_login_is_renewed_before_its_session_ends() {
    let broker = with_login();
    let config = Config { login: Some(Login::Plain(user(CANARY))), ..broker.config() };
    let mut connection = open(config).expect("open");
    assert!(!format!("{connection:?}").contains(CANARY), "the request of the login is not shown");
    assert!(ask(&mut connection).is_ok());
    let logins = || broker.calls().iter().filter(|(key, _)| *key == SaslAuthenticateRequest::KEY).count();
    assert_eq!(logins(), 1);
    // As if the time had come.
    connection.renew_at = Some(Instant::now());
    assert!(ask(&mut connection).is_ok());
    assert_eq!(logins(), 2);
    assert!(connection.renew_at.is_some_and(|at| at > Instant::now()));
    assert_eq!(
        [0, -5, 100, 10_000].map(renewal),
        [None, None, Some(Duration::from_secs(1)), Some(Duration::from_millis(8_500))]
    );
}

#[test]
fn a_wrong_login_is_one_line_without_the_secret() {
    let broker = with_login();
    let line = |login| {
        let failure = open(Config { login: Some(login), ..broker.config() }).map(|_| ()).expect_err("refused");
        assert!(!failure.is_passing());
        failure.to_string()
    };
    let wrong = line(Login::Plain(user("wrong-canary")));
    assert!(wrong.contains("the broker refuses the credentials (no  alice ***)"), "{wrong}");
    assert!(!wrong.contains("canary") && !wrong.contains('\n'), "{wrong}");
    let other = line(Login::Scram(ScramHash::Sha256, user(CANARY)));
    assert!(other.contains("the broker offers PLAIN alone; set sasl_mechanism"), "{other}");
}

#[test]
fn a_request_may_go_out_ahead_and_no_login_is_renewed_before_its_answer() {
    let broker = with_login();
    let config = Config { login: Some(Login::Plain(user(CANARY))), ..broker.config() };
    let mut connection = open(config).expect("open");
    let version = connection.version::<MetadataRequest>().expect("spoken");
    let deadline = Instant::now() + Duration::from_secs(5);
    let ask = |connection: &mut Connection| connection.send(&MetadataRequest::default(), version, deadline);
    let first = ask(&mut connection).expect("sent");
    connection.renew_at = Some(Instant::now());
    let second = ask(&mut connection).expect("sent");
    let mut frame = Buffer::default();
    let begin = connection.receive(first, deadline, &mut frame).expect("answered");
    assert!(begin < frame.len() && frame.capacity() >= frame.len() + PADDING);
    let logins = || broker.calls().iter().filter(|(key, _)| *key == SaslAuthenticateRequest::KEY).count();
    assert_eq!(logins(), 1, "one is outstanding");
    connection.receive(second, deadline, &mut frame).expect("answered");
    let third = ask(&mut connection).expect("sent");
    assert_eq!(logins(), 2);
    connection.receive(third, deadline, &mut frame).expect("answered");
}

#[test]
fn a_connection_is_ended_from_another_thread() {
    let broker = metadata(|_, _| Reply::Nothing);
    let stop = Stop::default();
    let dialer = Dialer::new(broker.config()).expect("settings").with_stop(stop.clone());
    let mut connection = dialer.open(&broker.address).expect("open");
    let started = Instant::now();
    let asked = std::thread::spawn(move || ask(&mut connection).map(|_| ()));
    std::thread::sleep(Duration::from_millis(20));
    stop.stop();
    assert!(asked.join().expect("no panic").is_err());
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(dialer.open(&broker.address).is_err(), "it stays so");
}
