//! Which S3 credentials to use.
//!
//! The first that is there: given outright; `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`; the
//! profile `AWS_PROFILE` (else `default`) of the shared credentials file; a web identity or
//! container credentials named by the environment; with an endpoint of one's own the well-known
//! `minioadmin`; else what the machine's instance metadata offers.

use std::fmt;
use std::path::PathBuf;

use crate::error::{StorageError, StorageErrorKind};
use crate::profile;

/// A key pair. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyPair {
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    pub(crate) token: Option<String>,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPair(…)")
    }
}

/// Where credentials come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Credentials {
    Keys(KeyPair),
    /// The environment names a web identity or container credentials, or the instance has some.
    Ambient,
}

/// The outer world, so that tests need not change it.
pub(crate) struct Surroundings<'a> {
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    pub(crate) read: &'a dyn Fn(&PathBuf) -> Option<String>,
}

impl Surroundings<'_> {
    /// A variable that is set, and not empty.
    pub(crate) fn set(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|v| !v.is_empty())
    }
}

/// What the environment may name in place of keys.
const AMBIENT: [&str; 3] = [
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

pub(crate) fn choose(
    access_key: Option<&str>,
    secret_key: Option<&str>,
    own_endpoint: bool,
    around: &Surroundings<'_>,
) -> Result<Credentials, StorageError> {
    let misconfigured =
        |message: String| StorageError::new(StorageErrorKind::Misconfigured, message);
    let keys = |access_key: String, secret_key: String, token: Option<String>| {
        Credentials::Keys(KeyPair {
            access_key,
            secret_key,
            token,
        })
    };
    match (access_key, secret_key) {
        (Some(access), Some(secret)) => return Ok(keys(access.into(), secret.into(), None)),
        (Some(_), None) => {
            return Err(misconfigured(
                "an S3 access key is given without its secret key".into(),
            ));
        }
        (None, Some(_)) => {
            return Err(misconfigured(
                "an S3 secret key is given without its access key".into(),
            ));
        }
        (None, None) => {}
    }
    match (
        around.set("AWS_ACCESS_KEY_ID"),
        around.set("AWS_SECRET_ACCESS_KEY"),
    ) {
        (Some(access), Some(secret)) => {
            return Ok(keys(access, secret, around.set("AWS_SESSION_TOKEN")));
        }
        (None, None) => {}
        _ => {
            return Err(misconfigured(
                "of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only one is set".into(),
            ));
        }
    }
    if let Some(pair) = from_profile(around)? {
        return Ok(Credentials::Keys(pair));
    }
    if own_endpoint && !AMBIENT.iter().any(|name| around.set(name).is_some()) {
        return Ok(keys("minioadmin".into(), "minioadmin".into(), None));
    }
    Ok(Credentials::Ambient)
}

/// The profile's keys in the shared credentials file. A profile that was asked for by name must
/// be there, unless the environment offers something else.
fn from_profile(around: &Surroundings<'_>) -> Result<Option<KeyPair>, StorageError> {
    let (name, asked) = profile::name(around);
    match profile::keys(around, &name) {
        None if asked && !AMBIENT.iter().any(|v| around.set(v).is_some()) => {
            Err(StorageError::new(
                StorageErrorKind::Misconfigured,
                format!("AWS_PROFILE is {name}, but the credentials file has no keys for it"),
            ))
        }
        found => Ok(found),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const FILE: &str = "
# work
[default]
aws_access_key_id = AKDEFAULT
aws_secret_access_key=SKDEFAULT
region = eu-central-1

[ lab ]
; aws_access_key_id = AKOLD
aws_access_key_id = AKLAB
aws_secret_access_key = SK=LAB
aws_session_token = TOKEN

[empty]
aws_access_key_id =
";

    fn choose_in(
        flags: (Option<&str>, Option<&str>),
        own_endpoint: bool,
        variables: &[(&str, &str)],
    ) -> Result<Credentials, StorageError> {
        let variable = |name: &str| {
            variables
                .iter()
                .find(|v| v.0 == name)
                .map(|v| v.1.to_owned())
        };
        let read = |path: &PathBuf| {
            (path.as_os_str() == "/home/u/.aws/credentials").then(|| FILE.to_owned())
        };
        choose(
            flags.0,
            flags.1,
            own_endpoint,
            &Surroundings {
                variable: &variable,
                read: &read,
            },
        )
    }

    fn access_key(credentials: Result<Credentials, StorageError>) -> String {
        match credentials.unwrap() {
            Credentials::Keys(pair) => pair.access_key,
            Credentials::Ambient => "ambient".into(),
        }
    }

    const ENV: [(&str, &str); 2] = [
        ("AWS_ACCESS_KEY_ID", "AKENV"),
        ("AWS_SECRET_ACCESS_KEY", "S"),
    ];
    const HOME: (&str, &str) = ("HOME", "/home/u");
    const WEB: (&str, &str) = ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token");

    #[test]
    fn the_first_credentials_that_are_there_are_used() {
        let none = (None, None);
        let flags = (Some("AKFLAG"), Some("S"));
        let check = |flags, endpoint, variables: &[(&str, &str)], expected: &str| {
            assert_eq!(access_key(choose_in(flags, endpoint, variables)), expected);
        };
        check(flags, true, &[ENV[0], ENV[1], HOME, WEB], "AKFLAG");
        check(none, true, &[ENV[0], ENV[1], HOME, WEB], "AKENV");
        check(none, true, &[HOME, WEB], "AKDEFAULT");
        check(none, true, &[HOME, ("AWS_PROFILE", "lab")], "AKLAB");
        check(none, true, &[WEB], "ambient");
        check(
            none,
            true,
            &[("AWS_WEB_IDENTITY_TOKEN_FILE", "")],
            "minioadmin",
        );
        check(none, true, &[], "minioadmin");
        check(none, false, &[], "ambient");
        check(
            none,
            false,
            &[HOME, WEB, ("AWS_PROFILE", "absent")],
            "ambient",
        );
    }

    #[test]
    fn half_a_key_pair_is_refused() {
        for half in [(Some("A"), None), (None, Some("S"))] {
            let error = choose_in(half, true, &ENV).unwrap_err();
            assert_eq!(error.kind(), StorageErrorKind::Misconfigured);
        }
        assert!(choose_in((None, None), true, &ENV[..1]).is_err());
        assert!(choose_in((None, None), true, &ENV[1..]).is_err());
    }

    #[test]
    fn a_profile_that_was_asked_for_must_be_there() {
        for profile in ["absent", "empty"] {
            let error =
                choose_in((None, None), true, &[HOME, ("AWS_PROFILE", profile)]).unwrap_err();
            assert!(error.to_string().contains(profile), "{error}");
        }
    }

    #[test]
    fn keys_are_never_printed() {
        let text = format!(
            "{:?}",
            choose_in((Some("AKIA"), Some("hunter2")), true, &[])
        );
        assert!(
            !text.contains("AKIA") && !text.contains("hunter2"),
            "{text}"
        );
    }
}
