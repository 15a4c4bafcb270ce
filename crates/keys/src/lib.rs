//! Tokens and keys in files, and URLs that are signed with them: what the server, which checks, and
//! `repo-cli`, which makes, must agree on. `docs/access.md` is the contract.
//!
//! No secret is ever in a `Debug` or an error: a line that is refused is named by its number.

mod lines;
mod token;
mod url;

pub use lines::BadLine;
pub use token::{Digest, TokenEntry, digest, make_token, read_tokens};
pub use url::{PARAMETERS, Signed, UrlKeys, UrlRefusal, signable_path};

/// Whether a name of a token or key can be one: a word that needs no quotes anywhere.
pub fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=64).contains(&text.len()) && text.chars().all(plain)
}
