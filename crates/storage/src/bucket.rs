//! Buckets that may be read, and how much of each.

use std::borrow::Cow;

use crate::error::{StorageError, StorageErrorKind, shown};

/// Where a listing looks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Below {
    /// At the keys that begin so.
    Keys(String),
    /// At what leads to the prefix: this one folder.
    OnTheWay(String),
    /// Nowhere: nothing there may be read.
    Nothing,
}

/// A bucket that may be read, or what lies below a prefix of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Nothing but keys below this, as below a folder, may be read; empty: all may.
    pub prefix: String,
}

impl From<&str> for Bucket {
    /// All of a bucket.
    fn from(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            prefix: String::new(),
        }
    }
}

impl Bucket {
    /// Reads a list of buckets, as in `flights,lab`, and one of prefixes. Of these, `BUCKET=PREFIX`
    /// is for that bucket, and one without a bucket of the list before its `=` for all that have
    /// none of their own.
    ///
    /// # Errors
    /// A list that names nothing, a bucket twice, or two prefixes for one bucket.
    pub fn list(buckets: &str, prefixes: &str) -> Result<Vec<Self>, String> {
        let parts = |list: &str| -> Vec<String> {
            let parts = list.split(',').map(str::trim);
            parts.filter(|p| !p.is_empty()).map(str::to_owned).collect()
        };
        let mut list: Vec<(String, Option<String>)> = Vec::new();
        for name in parts(buckets) {
            if list.iter().any(|(n, _)| *n == name) {
                return Err(format!("the bucket {name} is named twice"));
            }
            list.push((name, None));
        }
        if list.is_empty() {
            return Err("no bucket is named".into());
        }
        let mut common: Option<String> = None;
        for entry in parts(prefixes) {
            let own = entry.split_once('=').and_then(|(bucket, prefix)| {
                let place = list.iter_mut().find(|(n, _)| n == bucket)?;
                Some((&mut place.1, prefix.to_owned()))
            });
            let (place, prefix) = own.unwrap_or((&mut common, entry.clone()));
            if place.replace(prefix).is_some() {
                return Err(format!("{entry} is the second prefix of the same bucket"));
            }
        }
        let bucket = |(name, own): (String, Option<String>)| Self {
            name,
            prefix: own.or_else(|| common.clone()).unwrap_or_default(),
        };
        Ok(list.into_iter().map(bucket).collect())
    }

    pub(crate) fn check_all(service: &str, buckets: &[Self]) -> Result<(), StorageError> {
        let misconfigured =
            |message: String| Err(StorageError::new(StorageErrorKind::Misconfigured, message));
        if buckets.is_empty() {
            return misconfigured(format!("no {service} bucket is named"));
        }
        for bucket in buckets {
            if bucket.name.is_empty() || bucket.name.contains(['/', ',']) {
                return misconfigured(format!(
                    "\"{}\" is not the name of an {service} bucket",
                    shown(&bucket.name)
                ));
            }
            let mut parts = bucket.folder().split('/');
            if !bucket.folder().is_empty() && parts.any(|p| matches!(p, "" | "." | "..")) {
                return misconfigured(format!(
                    "\"{}\" is not a prefix of keys that can be served",
                    shown(&bucket.prefix)
                ));
            }
        }
        Ok(())
    }

    /// The prefix without slashes at its ends.
    pub(crate) fn folder(&self) -> &str {
        self.prefix.trim_matches('/')
    }

    /// Whether a key lies below the prefix.
    pub(crate) fn allows(&self, key: &str) -> bool {
        let folder = self.folder();
        folder.is_empty() || (key.strip_prefix(folder)).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Where to look for keys that begin with `prefix`.
    pub(crate) fn full_prefix(&self, prefix: &str) -> Below {
        let folder = self.folder();
        if folder.is_empty() {
            return Below::Keys(prefix.to_owned());
        }
        let limit = format!("{folder}/");
        if prefix.starts_with(&limit) {
            return Below::Keys(prefix.to_owned());
        }
        let Some(rest) = limit.strip_prefix(prefix) else {
            return Below::Nothing;
        };
        let end = rest.find('/').map_or(rest.len(), |at| at + 1);
        let next = rest.get(..end).unwrap_or_default();
        Below::OnTheWay(format!("{prefix}{next}"))
    }

    /// Where to look for plain names that begin with `prefix`.
    pub(crate) fn plain_prefix(&self, prefix: &str) -> Below {
        let folder = self.folder();
        let whole = folder.is_empty() || prefix.starts_with(&format!("{folder}/"));
        Below::Keys(if whole {
            prefix.to_owned()
        } else {
            format!("{folder}/{prefix}")
        })
    }

    /// The shortest plain name of a key that may be read.
    pub(crate) fn plain_of_key<'a>(&self, key: &'a str) -> &'a str {
        let short = key.strip_prefix(self.folder());
        let short = short.and_then(|rest| rest.strip_prefix('/'));
        short
            .filter(|short| !self.folder().is_empty() && self.key_of_plain(short) == key)
            .unwrap_or(key)
    }

    /// The key that a plain name means: itself where it lies below the prefix, else the one below
    /// the prefix.
    pub(crate) fn key_of_plain<'a>(&self, path: &'a str) -> Cow<'a, str> {
        if self.allows(path) {
            path.into()
        } else {
            format!("{}/{path}", self.folder()).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(buckets: &str, prefixes: &str) -> Result<Vec<(String, String)>, String> {
        let list = Bucket::list(buckets, prefixes)?;
        Ok(list.into_iter().map(|b| (b.name, b.prefix)).collect())
    }

    #[test]
    fn lists_of_buckets_and_prefixes_are_read() {
        let check = |buckets, prefixes, expected: &[(&str, &str)]| {
            let expected = expected.iter().map(|(n, p)| ((*n).into(), (*p).into()));
            assert_eq!(listed(buckets, prefixes), Ok(expected.collect()));
        };
        check("a", "", &[("a", "")]);
        check("a, b,", "p/q", &[("a", "p/q"), ("b", "p/q")]);
        check("a,b", "b=x/", &[("a", ""), ("b", "x/")]);
        check("a,b,c", "p,b=x", &[("a", "p"), ("b", "x"), ("c", "p")]);
        check("a,b", "p,b=", &[("a", "p"), ("b", "")]);
        // Prefixes may have an equals sign, too.
        check("a", "year=2026/cam", &[("a", "year=2026/cam")]);
        check("a", "a=year=2026", &[("a", "year=2026")]);
        for (buckets, prefixes) in [
            ("", ""),
            (" , ", ""),
            ("a,a", ""),
            ("a", "p,q"),
            ("a", "a=p,a=q"),
        ] {
            assert!(listed(buckets, prefixes).is_err(), "{buckets} {prefixes}");
        }
    }

    #[test]
    fn a_prefix_ends_at_a_slash() {
        for prefix in ["flights/2026", "flights/2026/", "/flights/2026"] {
            let bucket = Bucket {
                name: "b".into(),
                prefix: prefix.into(),
            };
            for (plain, key) in [
                ("flights/2026/a.mp4", "flights/2026/a.mp4"),
                ("a.mp4", "flights/2026/a.mp4"),
                ("flights/2026", "flights/2026/flights/2026"),
                ("flights/20267/a.mp4", "flights/2026/flights/20267/a.mp4"),
            ] {
                assert_eq!(bucket.key_of_plain(plain), key);
                assert!(bucket.allows(&bucket.key_of_plain(plain)));
            }
            for outside in [
                "flights/20267/a",
                "flights",
                "flights/2026",
                "a",
                "x/flights/2026/a",
            ] {
                assert!(!bucket.allows(outside), "{outside}");
            }
        }
        assert!(Bucket::from("b").allows("anything/at.all"));
        assert_eq!(Bucket::from("b").key_of_plain("a"), "a");
    }

    #[test]
    fn a_listing_stays_below_the_prefix() {
        let keys = |text: &str| Below::Keys(text.into());
        let way = |text: &str| Below::OnTheWay(text.into());
        let limited = Bucket {
            name: "b".into(),
            prefix: "flights/2026/".into(),
        };
        for (prefix, plain, full) in [
            ("", keys("flights/2026/"), way("flights/")),
            ("fli", keys("flights/2026/fli"), way("flights/")),
            (
                "flights/",
                keys("flights/2026/flights/"),
                way("flights/2026/"),
            ),
            (
                "flights/20267",
                keys("flights/2026/flights/20267"),
                Below::Nothing,
            ),
            (
                "flights/2026/x",
                keys("flights/2026/x"),
                keys("flights/2026/x"),
            ),
            ("../", keys("flights/2026/../"), Below::Nothing),
        ] {
            assert_eq!(limited.plain_prefix(prefix), plain, "{prefix}");
            assert_eq!(limited.full_prefix(prefix), full, "{prefix}");
        }
        for (key, name) in [
            ("flights/2026/a.mp4", "a.mp4"),
            ("flights/2026/x/", "x/"),
            // Its short name would mean another key.
            (
                "flights/2026/flights/2026/a.mp4",
                "flights/2026/flights/2026/a.mp4",
            ),
        ] {
            assert_eq!(limited.plain_of_key(key), name);
            assert_eq!(limited.key_of_plain(name), key);
        }
        let open = Bucket::from("b");
        assert_eq!(open.plain_prefix("x/y"), keys("x/y"));
        assert_eq!(open.full_prefix(""), keys(""));
        assert_eq!(open.plain_of_key("x/y"), "x/y");
    }

    #[test]
    fn names_and_prefixes_that_cannot_be_are_refused() {
        let check = |name: &str, prefix: &str| {
            let bucket = Bucket {
                name: name.into(),
                prefix: prefix.into(),
            };
            Bucket::check_all("S3", &[bucket]).is_ok()
        };
        assert!(check("b", "") && check("b", "/") && check("b", "x/y/"));
        for (name, prefix) in [
            ("", ""),
            ("a/b", ""),
            ("b", "x//y"),
            ("b", "../x"),
            ("b", "x/./y"),
        ] {
            assert!(!check(name, prefix), "{name} {prefix}");
        }
        assert!(Bucket::check_all("S3", &[]).is_err());
    }
}
