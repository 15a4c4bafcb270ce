//! What a name says, before any store looks at it.

use crate::error::{StorageError, StorageErrorKind, shown};

/// A name, taken apart. Nothing is percent-decoded: `%2e%2e` is a name of six characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Location<'a> {
    /// A path below the root, or a key of the bucket.
    Plain(&'a str),
    /// `fs:///absolute/path`: the path, with its leading slash.
    Absolute(&'a str),
    /// `s3://bucket/key`, and the same of the other services.
    Bucket {
        /// Of which service.
        scheme: Scheme,
        /// The bucket.
        bucket: &'a str,
        /// The key, without a leading slash.
        key: &'a str,
    },
}

/// Which service a name with a bucket is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scheme {
    /// `s3://bucket/key`.
    S3,
    /// `gs://bucket/key`.
    Gcs,
    /// `az://container/key`.
    Azure,
}

const SCHEMES: [(&str, Scheme); 3] = [
    ("s3://", Scheme::S3),
    ("gs://", Scheme::Gcs),
    ("az://", Scheme::Azure),
];

impl Scheme {
    /// What names with a bucket begin with.
    pub(crate) fn prefix(self) -> &'static str {
        let own = SCHEMES.iter().find(|(_, scheme)| *scheme == self);
        own.map_or("", |(prefix, _)| prefix)
    }
}

impl<'a> Location<'a> {
    /// Takes a name apart.
    pub(crate) fn parse(name: &'a str) -> Result<Self, StorageError> {
        let invalid = |why: &str| {
            StorageError::new(
                StorageErrorKind::InvalidName,
                format!("\"{}\" {why}", shown(name)),
            )
        };
        if name.is_empty() {
            return Err(invalid("names nothing"));
        }
        if name.contains('\0') {
            return Err(invalid("contains a NUL character"));
        }
        if let Some(path) = name.strip_prefix("fs://") {
            if !path.starts_with('/') {
                return Err(invalid("must have an absolute path after fs://"));
            }
            return Ok(Self::Absolute(path));
        }
        for (prefix, scheme) in SCHEMES {
            let Some(rest) = name.strip_prefix(prefix) else {
                continue;
            };
            return match rest.split_once('/') {
                Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => Ok(Self::Bucket {
                    scheme,
                    bucket,
                    key,
                }),
                _ => Err(invalid(&format!(
                    "must have a bucket and a key after {prefix}"
                ))),
            };
        }
        Ok(Self::Plain(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let check = |name: &str, location| assert_eq!(Location::parse(name), Ok(location));
        check("data/a.h265", Location::Plain("data/a.h265"));
        check("/etc/passwd", Location::Plain("/etc/passwd"));
        check("%2e%2e/a", Location::Plain("%2e%2e/a"));
        check("fs:///a/b c", Location::Absolute("/a/b c"));
        for (prefix, scheme) in SCHEMES {
            check(
                &format!("{prefix}b/k/l"),
                Location::Bucket {
                    scheme,
                    bucket: "b",
                    key: "k/l",
                },
            );
        }
        check("S3://b/k", Location::Plain("S3://b/k"));
        check("http://b/k", Location::Plain("http://b/k"));
    }

    #[test]
    fn names_of_nothing_are_refused() {
        for name in [
            "", "a\0", "\0", "fs://", "fs://a/b", "s3://", "s3://b", "s3://b/", "s3:///k",
            "gs://b", "az://b/",
        ] {
            let error = Location::parse(name).unwrap_err();
            assert_eq!(error.kind(), StorageErrorKind::InvalidName, "{name:?}");
        }
    }
}
