//! Logins, message by message, without a socket.
//!
//! `connection.rs` carries the messages. Invariant: a login that a broker must prove itself in is over only once it has.

mod scram;

use crate::config::{Login, Token, User};
use crate::failure::LoginFault;
use scram::Scram;

/// Ends the parts of a message of OAUTHBEARER.
const PART_END: char = '\u{1}';

/// What a client says to a broker that refuses its token, so that the broker ends the login (RFC 7628, 3.2.3).
const TOKEN_REFUSED: &[u8] = b"\x01";

/// A login that is under way.
#[derive(Debug)]
pub struct Exchange(State);

#[derive(Debug)]
enum State {
    Plain,
    Scram(Box<Scram>),
    OAuthBearer,
}

impl Exchange {
    /// Begins a login: what to send first.
    ///
    /// # Errors
    /// Characters that no login may have; no token.
    pub fn begin(login: &Login) -> Result<(Self, Vec<u8>), LoginFault> {
        match login {
            Login::Plain(user) => Ok((Self(State::Plain), plain(user)?)),
            Login::Scram(hash, user) => {
                let (scram, first) = Scram::begin(*hash, user, scram::nonce()?);
                Ok((Self(State::Scram(Box::new(scram))), first))
            }
            Login::OAuthBearer(tokens) => {
                let token = tokens.token().map_err(|kind| LoginFault::Token(crate::failure::said(&kind)))?;
                Ok((Self(State::OAuthBearer), bearer(&token)?))
            }
        }
    }

    /// What to send next, after the broker said `challenge`; none once the login is over.
    ///
    /// # Errors
    /// A broker that breaks the rules, or does not prove itself.
    pub fn answer(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, LoginFault> {
        match &mut self.0 {
            State::Plain => Ok(None),
            State::Scram(scram) => scram.answer(challenge),
            State::OAuthBearer if challenge.is_empty() => Ok(None),
            State::OAuthBearer => Ok(Some(TOKEN_REFUSED.to_vec())),
        }
    }
}

/// RFC 4616, acting as nobody else.
fn plain(User { name, password }: &User) -> Result<Vec<u8>, LoginFault> {
    for (what, text) in [("user name", name.as_str()), ("password", password.expose())] {
        if text.contains('\0') {
            return Err(LoginFault::Characters(what));
        }
    }
    Ok(format!("\0{name}\0{}", password.expose()).into_bytes())
}

/// RFC 7628, without channel binding, acting as nobody else.
fn bearer(Token { value, extensions }: &Token) -> Result<Vec<u8>, LoginFault> {
    let token = value.expose();
    // b64token of RFC 6750: a token with other characters could add parts of its own.
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if token.is_empty() || !token.bytes().all(is_token) {
        return Err(LoginFault::Characters("token"));
    }
    let mut message = format!("n,,{PART_END}auth=Bearer {token}{PART_END}");
    for (name, value) in extensions {
        let is_text = |letter: char| letter.is_ascii_graphic() || " \t\r\n".contains(letter);
        let is_name = !name.is_empty() && name != "auth" && name.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !is_name || !value.chars().all(is_text) {
            return Err(LoginFault::Characters("extension of the token"));
        }
        message.extend([name.as_str(), "=", value.as_str()]);
        message.push(PART_END);
    }
    message.push(PART_END);
    Ok(message.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TokenSource;
    use crate::secret::Secret;
    use std::collections::BTreeMap;

    fn token(value: &str, extensions: &[(&str, &str)]) -> Token {
        let extensions = extensions.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Token { value: Secret::new(value), extensions: extensions.collect::<BTreeMap<_, _>>() }
    }

    #[test]
    fn a_password_goes_as_it_is() {
        let user = |name: &str, password: &str| User { name: name.into(), password: Secret::new(password) };
        let (mut exchange, first) = Exchange::begin(&Login::Plain(user("tim", "tanstaaftanstaaf"))).expect("begun");
        assert_eq!(first, b"\0tim\0tanstaaftanstaaf", "the first example of RFC 4616");
        assert_eq!(exchange.answer(b""), Ok(None));
        assert_eq!(plain(&user("a\0b", "c")), Err(LoginFault::Characters("user name")));
        assert_eq!(plain(&user("a", "b\0c")), Err(LoginFault::Characters("password")));
    }

    #[test]
    fn a_token_goes_with_its_extensions() {
        let message = bearer(&token("a.b-c", &[("logicalCluster", "lkc-1")])).expect("a message");
        assert_eq!(message, b"n,,\x01auth=Bearer a.b-c\x01logicalCluster=lkc-1\x01\x01");
        for wrong in
            [token("", &[]), token("a\u{1}b", &[]), token("a", &[("auth", "x")]), token("a", &[("b", "\u{1}")])]
        {
            assert!(matches!(bearer(&wrong), Err(LoginFault::Characters(_))), "{wrong:?}");
        }
    }

    #[test]
    fn a_refused_token_ends_with_the_word_that_the_rules_want() {
        let tokens = TokenSource::new(|| Ok(token("t", &[])));
        let (mut exchange, _) = Exchange::begin(&Login::OAuthBearer(tokens)).expect("begun");
        assert_eq!(exchange.answer(br#"{"status":"invalid_token"}"#), Ok(Some(b"\x01".to_vec())));
        let none = TokenSource::new(|| Err("ConnectError".to_owned()));
        let fault = Exchange::begin(&Login::OAuthBearer(none)).map(|_| ()).expect_err("none");
        assert_eq!(fault, LoginFault::Token("ConnectError".to_owned()));
    }
}
