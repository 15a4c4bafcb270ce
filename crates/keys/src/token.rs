//! Static tokens: a file has their digests, so that who reads it can use none.

use std::collections::HashSet;
use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest as hash};
use aws_lc_rs::error::Unspecified;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::is_name;
use crate::lines::{BadLine, read};

/// What tokens that are made here begin with, so that one that was published is found.
const BEGINNING: &str = "bst_";

/// The SHA-256 of a token.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Whether both are the same, in a time that does not tell how much of them is.
    pub fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

// Not shown: a token that a person made up could be guessed from it.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest")
    }
}

/// The digest of a token.
pub fn digest(token: &str) -> Digest {
    let mut bytes = [0; 32];
    for (byte, made) in bytes
        .iter_mut()
        .zip(hash(&SHA256, token.as_bytes()).as_ref())
    {
        *byte = *made;
    }
    Digest(bytes)
}

/// A token that nobody guesses: 32 bytes of chance.
///
/// # Errors
/// The system has no randomness.
pub fn make_token() -> Result<String, Unspecified> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes)?;
    Ok(format!("{BEGINNING}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// A line of a file of tokens: `NAME:SHA256 [PREFIX …]`.
#[derive(Clone, Debug)]
pub struct TokenEntry {
    /// As the log calls it.
    pub name: String,
    /// Of the token.
    pub digest: Digest,
    /// What it may see; everything where there is none.
    pub prefixes: Vec<String>,
}

impl fmt::Display for TokenEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.digest)?;
        for prefix in &self.prefixes {
            let quoted = prefix.is_empty() || prefix.contains(char::is_whitespace);
            let quote = if quoted { "\"" } else { "" };
            write!(f, " {quote}{prefix}{quote}")?;
        }
        Ok(())
    }
}

impl TokenEntry {
    /// Whether it can be written as a line that is read as the same.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), String> {
        let again = Self::read(&self.to_string())?;
        if again.prefixes != self.prefixes {
            return Err("a prefix can have no quotation mark and no line break".into());
        }
        Ok(())
    }

    fn read(line: &str) -> Result<Self, String> {
        let (name, rest) = line
            .split_once(':')
            .ok_or("it must be NAME:SHA256, with prefixes behind it if wanted")?;
        if !is_name(name) {
            return Err(
                "the name must have 1 to 64 letters, digits, dots, hyphens or underscores".into(),
            );
        }
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (hex, rest) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let digest = Digest::from_hex(hex).ok_or(
            "behind the name must stand the token's SHA-256, as 64 hexadecimal digits: not the \
             token itself",
        )?;
        Ok(Self {
            name: name.to_owned(),
            digest,
            prefixes: words(rest)?,
        })
    }
}

/// Words with white space between them; those that have some in them are in quotation marks.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted
                .split_once('"')
                .filter(|(_, behind)| behind.is_empty() || behind.starts_with(char::is_whitespace))
                .ok_or("a quotation mark is not closed, or something stands right behind it")?,
            None => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                rest.split_at_checked(end).unwrap_or((rest, ""))
            }
        };
        if word.contains('"') {
            return Err("a quotation mark stands inside a prefix".into());
        }
        words.push(word.to_owned());
        rest = behind.trim_start();
    }
    Ok(words)
}

/// Reads a file of tokens.
///
/// # Errors
/// The first line that cannot be, or has the name or the token of an earlier one.
pub fn read_tokens(text: &str) -> Result<Vec<TokenEntry>, BadLine> {
    let (mut names, mut digests) = (HashSet::new(), HashSet::new());
    read(text, |line| {
        let entry = TokenEntry::read(line)?;
        if !names.insert(entry.name.clone()) {
            return Err(format!("there is another {} before it", entry.name));
        }
        if !digests.insert(entry.digest.0) {
            return Err("it is the token of an earlier line".into());
        }
        Ok(entry)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_file_of_tokens_is_read_line_by_line() {
        let text = format!(
            "# who may\n\nalice:{ABC}\n  bob:{} flights/2026 \"my flights\"\ts3://lab/x \n",
            digest("bob's")
        );
        let read = read_tokens(&text).unwrap();
        assert!(read[0].digest.is(&digest("abc")) && !read[0].digest.is(&digest("abd")));
        assert_eq!(
            (read[0].name.as_str(), read[0].prefixes.len()),
            ("alice", 0)
        );
        let expected = ["flights/2026", "my flights", "s3://lab/x"];
        assert_eq!(read[1].prefixes, expected);
        assert_eq!(digest("abc").to_string(), ABC);
        // Capitals are digits, too.
        assert!(read_tokens(&format!("a:{}", ABC.to_uppercase())).is_ok());
    }

    #[test]
    fn a_bad_line_is_named_and_not_shown() {
        for (line, says) in [
            ("alice".to_owned(), "NAME:SHA256"),
            ("alice:hunter2".into(), "64 hexadecimal digits"),
            (format!("alice:{ABC}0"), "64 hexadecimal digits"),
            (format!("alice:{}é", &ABC[..62]), "64 hexadecimal digits"),
            (format!("a b:{ABC}"), "the name must have"),
            (format!(":{ABC}"), "the name must have"),
            (format!("{}:{ABC}", "n".repeat(65)), "the name must have"),
            (format!("alice:{ABC} \"x"), "not closed"),
            (format!("alice:{ABC} \"x\"y"), "right behind it"),
            (format!("alice:{ABC} x\"y"), "inside a prefix"),
            (format!("first:{}", digest("other")), "another first"),
            (format!("second:{}", digest("first")), "an earlier line"),
        ] {
            let text = format!("first:{}\n\n{line}\n", digest("first"));
            let refused = read_tokens(&text).unwrap_err();
            assert_eq!(refused.line, 3, "{line}");
            let told = refused.to_string();
            assert!(told.contains(says), "{line}: {told}");
            assert!(!told.contains("hunter2") && !told.contains(ABC), "{told}");
        }
        let entry = &read_tokens(&format!("a:{ABC}")).unwrap()[0];
        assert!(!format!("{entry:?}").contains("ba78"));
    }

    #[test]
    fn tokens_that_are_made_differ() {
        let (one, two) = (make_token().unwrap(), make_token().unwrap());
        assert!(one.starts_with("bst_") && one.len() == 47);
        assert_ne!(one, two);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(
            name in "[a-zA-Z0-9._-]{1,64}",
            prefixes in prop::collection::vec("[^\"\n\r]{0,20}", 0..4),
        ) {
            let entry = TokenEntry { name, digest: digest("x"), prefixes };
            // A line break of another kind is none to lines, but white space.
            if entry.check().is_ok() {
                let read = read_tokens(&entry.to_string()).unwrap();
                prop_assert_eq!(&read[0].prefixes, &entry.prefixes);
                prop_assert_eq!(&read[0].name, &entry.name);
            }
        }

        #[test]
        fn no_text_is_a_defect(text in "\\PC{0,200}") {
            let _ = read_tokens(&text);
        }
    }
}
