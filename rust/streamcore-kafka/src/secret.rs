//! Text that is never shown.
//!
//! `config.rs` keeps passwords, tokens and keys as [`Secret`]; only what writes them to the wire asks for the text. Invariant:
//! neither `Debug` nor `Display` has any of it, its length included.

use std::fmt;

/// What stands where a secret would.
const BLOT: &str = "***";

/// Shorter secrets are not looked for in what others say: they are found in ordinary words.
const FOUND_BYTES_MIN: usize = 4;

/// A password, a token or a key.
///
/// ```
/// use streamcore_kafka::secret::Secret;
///
/// let password = Secret::new("correct-horse");
/// assert_eq!(format!("{password} {password:?}"), "*** Secret(***)");
/// assert_eq!(password.expose(), "correct-horse");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` out of sight.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the wire alone.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `text` of somebody else, without the secret.
    #[must_use]
    pub fn blot(&self, text: &str) -> String {
        if self.0.len() < FOUND_BYTES_MIN { text.to_owned() } else { text.replace(&self.0, BLOT) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({BLOT})")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(BLOT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_is_blotted() {
        assert_eq!(Secret::new("hunter22").blot("no hunter22 here, hunter2"), "no *** here, hunter2");
        assert_eq!(Secret::new("a").blot("a bad password"), "a bad password");
        assert_eq!(Secret::new("").blot("text"), "text");
    }
}
