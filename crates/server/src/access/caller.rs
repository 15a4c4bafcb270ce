//! Who asks.

use std::sync::Arc;
use std::time::SystemTime;

use super::sight::Sight;

/// Who asks, as far as it is known: for the log, for limits, and for what may be seen.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    name: Option<Arc<str>>,
    sight: Sight,
    /// From then on it is nobody any more.
    ends: Option<SystemTime>,
}

/// What begins the name of who has a signed URL. No token's name has a colon.
const URL: &str = "url:";

/// The longest name that is taken from a token that others made.
const LONGEST: usize = 64;

impl Caller {
    /// Where everybody may see everything.
    pub(super) fn anybody() -> Self {
        Self {
            name: None,
            sight: Sight::All,
            ends: None,
        }
    }

    pub(super) fn of_token(name: Arc<str>, sight: Sight) -> Self {
        Self {
            name: Some(name),
            sight,
            ends: None,
        }
    }

    pub(super) fn of_jwt(subject: &str, sight: Sight, ends: SystemTime) -> Self {
        let subject: String = subject.chars().take(LONGEST).collect();
        let subject = subject.escape_debug();
        Self {
            name: Some(format!("jwt:{subject}").into()),
            sight,
            ends: Some(ends),
        }
    }

    /// Of a URL that was found to be signed: it shows what it names, and nothing else.
    pub(super) fn of_url(key: &str, ends: SystemTime) -> Self {
        Self {
            name: Some(format!("{URL}{key}").into()),
            sight: Sight::All,
            ends: Some(ends),
        }
    }

    /// The token's name, `jwt:` and its subject, or `url:` and the name of the key; `None` where
    /// nobody is asked for a token. Never the token.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The name of the token that it has; `None` for who has a signed URL, which many may share.
    pub(crate) fn token(&self) -> Option<&str> {
        self.name().filter(|name| !name.starts_with(URL))
    }

    pub(crate) fn sight(&self) -> &Sight {
        &self.sight
    }

    pub(crate) fn ends(&self) -> Option<SystemTime> {
        self.ends
    }

    /// Its time is over.
    pub(super) fn has_ended(&self) -> bool {
        self.ends.is_some_and(|ends| SystemTime::now() >= ends)
    }
}
