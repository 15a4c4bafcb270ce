//! Signed URLs: whoever has one may see what it names, until a time.
//!
//! What is signed is a text of lines: the version of this form, the class of the method, the path as
//! it is sent, and the query's parameters in order, with the key's name and the time among them.
//! Parameters are compared as the server reads them (percent-decoded, `+` is a space), so one that
//! is written in another way is the same, and one that is added, changed, doubled or left out is not.
//! The path is compared as it is: `%2F` and `/` name different things.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::form_urlencoded::{Serializer, parse};

use crate::is_name;
use crate::lines::{BadLine, read};

/// What the parameters of a signature are called: the key's name, the end in seconds since 1970, and
/// the signature.
pub const PARAMETERS: [&str; 3] = [KEY, EXPIRES, SIGNATURE];
const KEY: &str = "key";
const EXPIRES: &str = "expires";
const SIGNATURE: &str = "signature";

const FORM: &str = "bucket-streamer-url-1";
/// `GET` and `HEAD`.
const METHODS: &str = "READ";
/// What may be signed lies below this.
const BELOW: &str = "/v1/videos/";
/// The shortest secret: as long as what SHA-256 gives would be better still.
const SHORTEST: usize = 16;

/// The part of a URL's path that is signed: a proxy may serve the server below a path of its own.
pub fn signable_path(path: &str) -> Option<&str> {
    let (_, from) = path.find(BELOW).and_then(|at| path.split_at_checked(at))?;
    (from.len() > BELOW.len()).then_some(from)
}

/// Keys by their names.
pub struct UrlKeys(HashMap<String, hmac::Key>);

impl fmt::Debug for UrlKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UrlKeys").field(&self.0.len()).finish()
    }
}

/// A URL that is signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// The name of its key.
    pub key: String,
    /// When it ends.
    pub expires: SystemTime,
}

/// Why a URL shows nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UrlRefusal {
    /// A parameter of the signature is missing, doubled or malformed, or the signature is another.
    #[error("The URL's signature is not that of a key of this server")]
    Signature,
    /// It was good.
    #[error("The URL's time is over")]
    Expired,
}

impl UrlKeys {
    /// Reads a file of keys, `ID:SECRET` in each line.
    ///
    /// # Errors
    /// The first line that cannot be, or has the name of an earlier one.
    pub fn read(text: &str) -> Result<Self, BadLine> {
        let mut keys = HashMap::new();
        read(text, |line| {
            let (id, secret) = line.split_once(':').ok_or("it must be ID:SECRET")?;
            let secret = secret.trim();
            if !is_name(id) {
                return Err(
                    "the id must have 1 to 64 letters, digits, dots, hyphens or underscores".into(),
                );
            }
            if secret.len() < SHORTEST {
                return Err(format!(
                    "the secret of {id} must have at least {SHORTEST} characters"
                ));
            }
            let key = hmac::Key::new(HMAC_SHA256, secret.as_bytes());
            match keys.insert(id.to_owned(), key) {
                Some(_) => Err(format!("there is another {id} before it")),
                None => Ok(()),
            }
        })?;
        Ok(Self(keys))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The query of the signed URL; `None` where there is no key of this name.
    pub fn sign(&self, path: &str, query: &str, id: &str, expires: u64) -> Option<String> {
        let key = self.0.get(id)?;
        let mut pairs: Vec<(String, String)> = pairs(query)
            .filter(|(name, _)| !PARAMETERS.contains(&name.as_str()))
            .collect();
        pairs.push((KEY.into(), id.into()));
        pairs.push((EXPIRES.into(), expires.to_string()));
        let signature = hmac::sign(key, text(path, pairs.clone()).as_bytes());
        pairs.push((SIGNATURE.into(), URL_SAFE_NO_PAD.encode(signature)));
        Some(Serializer::new(String::new()).extend_pairs(pairs).finish())
    }

    /// Whether a URL is signed, and until when.
    ///
    /// # Errors
    /// It is not, or was.
    pub fn check(&self, path: &str, query: &str, now: SystemTime) -> Result<Signed, UrlRefusal> {
        let all: Vec<(String, String)> = pairs(query).collect();
        let one = |wanted: &str| {
            let mut found = all.iter().filter(|(name, _)| name == wanted);
            let (_, value) = found.next().ok_or(UrlRefusal::Signature)?;
            match found.next() {
                None => Ok(value.as_str()),
                Some(_) => Err(UrlRefusal::Signature),
            }
        };
        let (id, expires, signature) = (one(KEY)?, one(EXPIRES)?, one(SIGNATURE)?);
        let digits = !expires.is_empty() && expires.bytes().all(|b| b.is_ascii_digit());
        let seconds: u64 = expires.parse().map_err(|_| UrlRefusal::Signature)?;
        let tag = URL_SAFE_NO_PAD.decode(signature);
        let tag = tag.ok().filter(|_| digits).ok_or(UrlRefusal::Signature)?;
        let key = self.0.get(id).ok_or(UrlRefusal::Signature)?;
        let (key_name, signed) = (id.to_owned(), all.iter().filter(|(n, _)| n != SIGNATURE));
        let text = text(path, signed.cloned().collect());
        hmac::verify(key, text.as_bytes(), &tag).map_err(|_| UrlRefusal::Signature)?;
        let expires = UNIX_EPOCH
            .checked_add(Duration::from_secs(seconds))
            .ok_or(UrlRefusal::Signature)?;
        if now >= expires {
            return Err(UrlRefusal::Expired);
        }
        Ok(Signed {
            key: key_name,
            expires,
        })
    }
}

fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    parse(query.as_bytes()).map(|(name, value)| (name.into_owned(), value.into_owned()))
}

/// What is signed. A path has no line break, and the query's form no character that is not ASCII.
fn text(path: &str, mut pairs: Vec<(String, String)>) -> String {
    pairs.sort_unstable();
    let query = Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("{FORM}\n{METHODS}\n{path}\n{query}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "# of 2026\nnew:0123456789abcdef0123\nold: fedcba9876543210 \n";
    const PATH: &str = "/v1/videos/a%2Fb.mp4/frame.jpg";

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn keys() -> UrlKeys {
        UrlKeys::read(FILE).unwrap()
    }

    #[test]
    fn a_signed_url_is_good_until_its_time() {
        let keys = keys();
        for id in ["new", "old"] {
            let query = keys.sign(PATH, "frame=7&width=320", id, 1000).unwrap();
            let good = keys.check(PATH, &query, at(999)).unwrap();
            assert_eq!((good.key.as_str(), good.expires), (id, at(1000)));
            assert_eq!(keys.check(PATH, &query, at(1000)), Err(UrlRefusal::Expired));
        }
        assert_eq!(keys.sign(PATH, "", "none", 1), None);
        // Signed again, not twice.
        let once = keys.sign(PATH, "frame=7", "old", 5).unwrap();
        let again = keys.sign(PATH, &once, "new", 1000).unwrap();
        assert!(keys.check(PATH, &again, at(1)).is_ok());
        assert_eq!(again.matches("signature=").count(), 1);
    }

    #[test]
    fn a_signature_is_of_this_form_for_ever() {
        let query = keys().sign(PATH, "width=320&frame=7", "new", 2_000_000_000);
        // HMAC-SHA256 of "bucket-streamer-url-1\nREAD\n/v1/videos/a%2Fb.mp4/frame.jpg\n
        // expires=2000000000&frame=7&key=new&width=320", by OpenSSL.
        let expected = "width=320&frame=7&key=new&expires=2000000000&signature=Cp0NeAV0cTcx1gu4SqRdUQMq7ofX0gwU5K9_XVfI1A0";
        assert_eq!(query.as_deref(), Some(expected));
    }

    #[test]
    fn nothing_of_it_may_be_another() {
        let keys = keys();
        let query = keys.sign(PATH, "frame=7&width=320", "new", 1000).unwrap();
        let refused = |path: &str, query: &str| {
            let check = keys.check(path, query, at(1));
            assert_eq!(check, Err(UrlRefusal::Signature), "{path}?{query}");
        };
        for path in [
            "/v1/videos/a%2Fb.mp4/frame.png",
            "/v1/videos/a%2fb.mp4/frame.jpg",
            "/v1/videos/a/b.mp4/frame.jpg",
            "/v1/videos/a%2Fb.mp4/frame%2Ejpg",
            "/v1/videos/a%2Fb.mp4",
            "/v1/videos/a%2Fc.mp4/frame.jpg",
        ] {
            refused(path, &query);
        }
        for (from, to) in [
            ("frame=7", "frame=8"),
            ("frame=7", "frame=07"),
            ("frame=7&", ""),
            ("frame=7", "frame=7&frame=7"),
            ("frame=7", "frame=7&v=1"),
            ("frame=7", "frame=7&&x"),
            ("width=320", "width=320 "),
            ("key=new", "key=old"),
            ("key=new", "key=none"),
            ("key=new&", ""),
            ("key=new", "key=new&key=new"),
            ("expires=1000", "expires=1001"),
            ("expires=1000", "expires=%2B1000"),
            ("expires=1000", "expires=01000"),
            ("expires=1000&", ""),
            ("signature=", "signature=A"),
            ("signature=", "signature"),
            ("signature=", "sig="),
        ] {
            let other = query.replacen(from, to, 1);
            assert_ne!(other, query);
            refused(PATH, &other);
        }
        refused(PATH, "");
        refused(PATH, "frame=7");
        let end = query.rfind('=').unwrap();
        refused(PATH, &query[..=end]);
        refused(PATH, &query[..query.len() - 1]);
    }

    #[test]
    fn how_a_parameter_is_written_does_not_matter() {
        let keys = keys();
        let query = keys.sign(PATH, "v=a b", "new", 1000).unwrap();
        for (from, to) in [("v=a+b", "v=a%20b"), ("v=a+b", "%76=a+%62"), ("&", "&&")] {
            let same = query.replacen(from, to, 1);
            assert_ne!(same, query);
            assert!(keys.check(PATH, &same, at(1)).is_ok(), "{same}");
        }
        let mut turned: Vec<&str> = query.split('&').collect();
        turned.reverse();
        assert!(keys.check(PATH, &turned.join("&"), at(1)).is_ok());
    }

    #[test]
    fn only_what_is_below_videos_is_signed() {
        for (path, signed) in [
            (
                "/v1/videos/a.mp4/frame.jpg",
                Some("/v1/videos/a.mp4/frame.jpg"),
            ),
            ("/media/v1/videos/a.mp4", Some("/v1/videos/a.mp4")),
            ("/v1/videos/", None),
            ("/v1/videos", None),
            ("/v1/openapi.json", None),
            ("/ws", None),
        ] {
            assert_eq!(signable_path(path), signed, "{path}");
        }
    }

    #[test]
    fn a_bad_line_is_named_and_not_shown() {
        for (line, says) in [
            ("hunter2", "ID:SECRET"),
            ("a b:hunter2hunter2hunter2", "the id must have"),
            ("a:hunter2", "at least 16 characters"),
            ("first:hunter2hunter2hunter2", "another first"),
        ] {
            let text = format!("first:0123456789abcdef\n{line}");
            let refused = UrlKeys::read(&text).unwrap_err();
            let told = refused.to_string();
            assert!(refused.line == 2 && told.contains(says), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
        assert!(!format!("{:?}", keys()).contains("0123"));
    }

    proptest! {
        #[test]
        fn who_reads_the_same_parameters_has_the_same_signature(
            pairs in prop::collection::vec(("[a-z%&=+é ]{1,6}", "[a-z%&=+é ]{0,6}"), 0..5),
            turn in 0_usize..5,
        ) {
            let pairs: Vec<_> = pairs
                .into_iter()
                .filter(|(name, _)| !PARAMETERS.contains(&name.as_str()))
                .collect();
            let write = |pairs: &[(String, String)]| {
                Serializer::new(String::new()).extend_pairs(pairs).finish()
            };
            let keys = keys();
            let signed = keys.sign(PATH, &write(&pairs), "new", 1000).unwrap();
            prop_assert!(keys.check(PATH, &signed, at(1)).is_ok());
            let mut all: Vec<(String, String)> = super::pairs(&signed).collect();
            let places = all.len();
            all.rotate_left(turn % places);
            prop_assert!(keys.check(PATH, &write(&all), at(1)).is_ok());
            for one in 0..all.len() {
                let mut fewer = all.clone();
                fewer.remove(one);
                prop_assert!(keys.check(PATH, &write(&fewer), at(1)).is_err());
                let mut other = all.clone();
                other[one].1.push('x');
                prop_assert!(keys.check(PATH, &write(&other), at(1)).is_err());
                let mut more = all.clone();
                more.push(all[one].clone());
                prop_assert!(keys.check(PATH, &write(&more), at(1)).is_err());
            }
        }
    }
}
