//! SCRAM (RFC 5802, RFC 7677): a proof that each side knows the password, which itself stays here.
//!
//! `sasl.rs` begins it and hands over what the broker says. Names and passwords are hashed as they are: RFC 5802 asks for `SASLprep`,
//! but Kafka's brokers, its own client and librdkafka do without, and a password that it changes would fit no key of theirs.
//! Invariant: the nonce is never used twice, and nothing follows a signature that is not the broker's.

use crate::config::{ScramHash, User};
use crate::failure::{LoginFault, said};
use crate::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use std::fmt;
use std::num::NonZeroU32;

/// Rounds of hashing: fewer make a password that was overheard easy to find.
const ITERATIONS_MIN: u32 = 4_096;

/// Rounds of hashing: more would let a broker keep us busy. This takes about a fifth of a second; Kafka itself stores 16,384 at most.
const ITERATIONS_MAX: u32 = 200_000;

/// Bytes of chance in a nonce.
const NONCE_BYTES: usize = 24;

/// No channel binding, acting as nobody else.
const GS2_HEADER: &str = "n,,";

/// The longest message of a broker that is read.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// A login by SCRAM that is under way.
#[derive(Debug)]
pub struct Scram {
    hash: ScramHash,
    password: Secret,
    nonce: String,
    /// The first message without its header.
    first: String,
    waits_for: WaitsFor,
}

/// The key of a signature, which is not shown.
struct Key(Vec<u8>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

/// What the broker says next.
#[derive(Debug)]
enum WaitsFor {
    /// Salt and rounds.
    Salt,
    /// Its signature, which is of this message by this key.
    Signature { key: Key, message: Vec<u8> },
    /// Nothing.
    Nothing,
}

/// A nonce of chance.
pub fn nonce() -> Result<String, LoginFault> {
    let mut bytes = [0; NONCE_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| LoginFault::Broken("the system has no random numbers"))?;
    Ok(BASE64.encode(bytes))
}

impl Scram {
    /// Begins a login with a `nonce` that is used for nothing else.
    pub fn begin(hash: ScramHash, user: &User, nonce: String) -> (Self, Vec<u8>) {
        let name = user.name.replace('=', "=3D").replace(',', "=2C");
        let first = format!("n={name},r={nonce}");
        let message = format!("{GS2_HEADER}{first}").into_bytes();
        let password = user.password.clone();
        (Self { hash, password, nonce, first, waits_for: WaitsFor::Salt }, message)
    }

    /// `Exchange::answer`.
    pub fn answer(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, LoginFault> {
        if challenge.len() > MESSAGE_BYTES_MAX {
            return Err(LoginFault::Broken("its message is too long"));
        }
        let text = std::str::from_utf8(challenge).map_err(|_| LoginFault::Broken("its message is no text"))?;
        match std::mem::replace(&mut self.waits_for, WaitsFor::Nothing) {
            WaitsFor::Salt => self.prove(text).map(Some),
            WaitsFor::Signature { key, message } => self.verify(text, &key.0, &message).map(|()| None),
            WaitsFor::Nothing => Err(LoginFault::Broken("it goes on after the end")),
        }
    }

    /// Answers salt and rounds with the proof.
    fn prove(&mut self, text: &str) -> Result<Vec<u8>, LoginFault> {
        let ServerFirst { nonce, salt, iterations } = ServerFirst::read(text)?;
        // A broker that adds nothing of its own could have an old login said again.
        if nonce.strip_prefix(&self.nonce).is_none_or(str::is_empty) {
            return Err(LoginFault::Broken("its nonce does not go on from ours"));
        }
        let salted = self.salted_password(&salt, iterations);
        let client_key = self.sign(&salted, b"Client Key");
        let stored_key = digest::digest(self.digest(), client_key.as_ref());
        let last = format!("c={},r={nonce}", BASE64.encode(GS2_HEADER));
        let message = format!("{},{text},{last}", self.first).into_bytes();
        let signature = self.sign(stored_key.as_ref(), &message);
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, sign)| key ^ sign).collect();
        let key = Key(self.sign(&salted, b"Server Key").as_ref().to_vec());
        self.waits_for = WaitsFor::Signature { key, message };
        Ok(format!("{last},p={}", BASE64.encode(proof)).into_bytes())
    }

    /// Looks whether the broker knows the password too.
    fn verify(&self, text: &str, key: &[u8], message: &[u8]) -> Result<(), LoginFault> {
        let first = text.split(',').next().unwrap_or_default();
        if let Some(error) = first.strip_prefix("e=") {
            return Err(LoginFault::Refused(format!(" ({})", said(error))));
        }
        let signature = first.strip_prefix("v=").and_then(|signature| BASE64.decode(signature).ok());
        let signature = signature.ok_or(LoginFault::Broken("its last message has no signature"))?;
        let key = hmac::Key::new(self.hmac(), key);
        hmac::verify(&key, message, &signature).map_err(|_| LoginFault::NotProven)
    }

    fn salted_password(&self, salt: &[u8], iterations: NonZeroU32) -> Vec<u8> {
        let (algorithm, bytes) = match self.hash {
            ScramHash::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, digest::SHA256_OUTPUT_LEN),
            ScramHash::Sha512 => (pbkdf2::PBKDF2_HMAC_SHA512, digest::SHA512_OUTPUT_LEN),
        };
        let mut salted = vec![0; bytes];
        pbkdf2::derive(algorithm, iterations, salt, self.password.expose().as_bytes(), &mut salted);
        salted
    }

    fn sign(&self, key: &[u8], message: &[u8]) -> hmac::Tag {
        hmac::sign(&hmac::Key::new(self.hmac(), key), message)
    }

    const fn hmac(&self) -> hmac::Algorithm {
        match self.hash {
            ScramHash::Sha256 => hmac::HMAC_SHA256,
            ScramHash::Sha512 => hmac::HMAC_SHA512,
        }
    }

    const fn digest(&self) -> &'static digest::Algorithm {
        match self.hash {
            ScramHash::Sha256 => &digest::SHA256,
            ScramHash::Sha512 => &digest::SHA512,
        }
    }
}

/// What a broker says first.
struct ServerFirst<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

impl<'a> ServerFirst<'a> {
    /// Reads `r=...,s=...,i=...`; what follows is for extensions that may be left alone.
    fn read(text: &'a str) -> Result<Self, LoginFault> {
        let mut attributes = text.split(',');
        let mut next = |prefix, fault| {
            attributes.next().and_then(|value| value.strip_prefix(prefix)).ok_or(LoginFault::Broken(fault))
        };
        let nonce = next("r=", "its first message does not begin with a nonce")?;
        let salt = BASE64.decode(next("s=", "its first message has no salt")?).unwrap_or_default();
        let rounds = next("i=", "its first message has no number of rounds")?;
        if salt.is_empty() {
            return Err(LoginFault::Broken("its salt cannot be read"));
        }
        let asked = rounds.parse().map_err(|_| LoginFault::Broken("its number of rounds is none"))?;
        let (min, max) = (ITERATIONS_MIN, ITERATIONS_MAX);
        let allowed = u32::try_from(asked).ok().filter(|asked| (min..=max).contains(asked)).and_then(NonZeroU32::new);
        let iterations = allowed.ok_or(LoginFault::Iterations { asked, min, max })?;
        Ok(Self { nonce, salt, iterations })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of RFC 7677, section 3.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn begin(hash: ScramHash, name: &str) -> (Scram, String) {
        let user = User { name: name.into(), password: Secret::new("pencil") };
        let (scram, first) = Scram::begin(hash, &user, NONCE.to_owned());
        (scram, String::from_utf8(first).expect("text"))
    }

    fn text(answer: Result<Option<Vec<u8>>, LoginFault>) -> String {
        String::from_utf8(answer.expect("no fault").expect("not over")).expect("text")
    }

    #[test]
    fn the_example_of_rfc_7677() {
        let (mut scram, first) = begin(ScramHash::Sha256, "user");
        assert_eq!(first, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let proof = text(scram.answer(SERVER_FIRST.as_bytes()));
        let expected = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(proof, expected);
        let shown = format!("{scram:?}");
        assert!(shown.contains("Key { .. }") && !shown.contains("pencil"), "{shown}");
        let signature = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(scram.answer(signature), Ok(None));
        assert!(matches!(scram.answer(signature), Err(LoginFault::Broken(_))));
    }

    #[test]
    fn both_sides_of_sha_512_agree() {
        let (mut scram, first) = begin(ScramHash::Sha512, "user");
        let proof = text(scram.answer(SERVER_FIRST.as_bytes()));
        let (last, proof) = proof.split_once(",p=").expect("a proof");
        // As a broker has it: it keeps the hash of the client's key, and the server's key.
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let mut salted = [0; 64];
        let rounds = NonZeroU32::new(4096).expect("not 0");
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, rounds, &salt, b"pencil", &mut salted);
        let sign = |key: &[u8], message: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, key), message);
        let stored = digest::digest(&digest::SHA512, sign(&salted, b"Client Key").as_ref());
        let message = format!("{},{SERVER_FIRST},{last}", &first[3..]);
        let signature = sign(stored.as_ref(), message.as_bytes());
        let proof = BASE64.decode(proof).expect("base64");
        let key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(proof, sign)| proof ^ sign).collect();
        assert_eq!(digest::digest(&digest::SHA512, &key).as_ref(), stored.as_ref());
        let server = sign(sign(&salted, b"Server Key").as_ref(), message.as_bytes());
        assert_eq!(scram.answer(format!("v={}", BASE64.encode(server)).as_bytes()), Ok(None));
    }

    #[test]
    fn a_broker_that_does_not_know_the_password_is_found_out() {
        for (last, expected) in [
            ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=", None),
            ("v=AAAA", Some(LoginFault::NotProven)),
            ("v=", Some(LoginFault::NotProven)),
            ("e=unknown-user", Some(LoginFault::Refused(" (unknown-user)".into()))),
            ("", Some(LoginFault::Broken("its last message has no signature"))),
        ] {
            let (mut scram, _) = begin(ScramHash::Sha256, "user");
            text(scram.answer(SERVER_FIRST.as_bytes()));
            let fault = scram.answer(last.as_bytes()).expect_err("refused");
            assert!(expected.is_none_or(|expected| expected == fault), "{last}: {fault:?}");
        }
    }

    #[test]
    fn rounds_and_nonces_have_their_bounds() {
        let answer = |message: &str| begin(ScramHash::Sha256, "u").0.answer(message.as_bytes()).expect_err("refused");
        let bounds = |asked| LoginFault::Iterations { asked, min: 4_096, max: 200_000 };
        assert_eq!(answer(&format!("r={NONCE}x,s=AAAA,i=4095")), bounds(4_095));
        assert_eq!(answer(&format!("r={NONCE}x,s=AAAA,i=200001")), bounds(200_001));
        assert_eq!(answer(&format!("r={NONCE}x,s=AAAA,i=99999999999")), bounds(99_999_999_999));
        let broken = [
            format!("r={NONCE},s=AAAA,i=4096"),
            "r=another,s=AAAA,i=4096".to_owned(),
            format!("r={NONCE}x,s=,i=4096"),
            format!("r={NONCE}x,s=!,i=4096"),
            format!("r={NONCE}x,s=AAAA,i=-1"),
            format!("m=x,r={NONCE}x,s=AAAA,i=4096"),
            format!("r={NONCE}x"),
            "x".repeat(MESSAGE_BYTES_MAX + 1),
        ];
        for message in broken {
            assert!(matches!(answer(&message), LoginFault::Broken(_)), "{message}");
        }
    }

    #[test]
    fn a_name_is_escaped_and_nonces_differ() {
        assert!(begin(ScramHash::Sha256, "a=b,c").1.starts_with("n,,n=a=3Db=2Cc,r="));
        assert_ne!(nonce(), nonce());
    }
    /// Messages of a broker, mostly ones that begin as they should.
    fn said_by_a_broker() -> impl Strategy<Value = String> {
        let part =
            prop_oneof!["[ -~]{0,12}", "(r=rOprNGfwEbeRWgbNEkqO|s=|i=|v=|e=|m=|,|=)[0-9A-Za-z=]{0,8}", "\\PC{0,4}"];
        let rounds = prop_oneof![Just(4_096_i64), 4_000..5_000_i64, any::<i64>()];
        let first = (part.clone(), "[A-Za-z0-9+/=]{0,9}", rounds, part.clone());
        let first = first.prop_map(|(nonce, salt, rounds, more)| format!("r={NONCE}{nonce},s={salt},i={rounds}{more}"));
        prop_oneof![first, proptest::collection::vec(part, 0..5).prop_map(|parts| parts.join(","))]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        #[test]
        fn whatever_the_broker_says_the_login_goes_on_or_is_refused_and_never_over(
            messages in proptest::collection::vec(said_by_a_broker(), 1..4),
        ) {
            let (mut scram, _) = begin(ScramHash::Sha256, "user");
            for message in messages {
                // Over is a login whose signature is right, which cannot be guessed.
                match scram.answer(message.as_bytes()) {
                    Ok(sent) => prop_assert!(sent.is_some()),
                    Err(fault) => prop_assert!(!fault.to_string().contains('\n')),
                }
            }
        }
    }
}
