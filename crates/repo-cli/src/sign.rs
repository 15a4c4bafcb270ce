//! `repo-cli sign`: signs a URL of a server.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use keys::{UrlKeys, signable_path};
use url::Url;

#[derive(Debug, clap::Args)]
pub(crate) struct RawSign {
    /// What is to be seen: a URL below /v1/videos/, whole or from its path on
    url: String,

    /// The server's file of keys, ID:SECRET in each line
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,

    /// The key to sign with
    #[arg(long, value_name = "ID")]
    key: String,

    /// How long it is to be seen, as 15m, 1h or 7days
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires: Duration,
}

pub(crate) fn run(raw: &RawSign) -> anyhow::Result<ExitCode> {
    let shown = raw.key_file.display();
    let text = std::fs::read_to_string(&raw.key_file);
    let text = text.with_context(|| format!("cannot read {shown}"))?;
    let keys = UrlKeys::read(&text).with_context(|| shown.to_string())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let expires = now
        .checked_add(raw.expires)
        .context("--expires is too long")?;
    ensure!(
        raw.expires >= Duration::from_secs(1),
        "--expires must be at least 1s"
    );
    let signed = sign(&raw.url, &keys, &raw.key, expires.as_secs())?;
    writeln!(std::io::stdout(), "{signed}")?;
    Ok(ExitCode::SUCCESS)
}

/// The signed URL, from where the given one begins.
fn sign(text: &str, keys: &UrlKeys, key: &str, expires: u64) -> anyhow::Result<String> {
    // A path alone is one of any server.
    let base = text.starts_with('/').then_some("http://localhost");
    let mut url = Url::parse(&format!("{}{text}", base.unwrap_or_default()))
        .with_context(|| format!("{text} is no URL"))?;
    ensure!(
        matches!(url.scheme(), "http" | "https"),
        "{text} is no http:// or https:// URL"
    );
    let Some(path) = signable_path(url.path()) else {
        bail!("{text} is not below /v1/videos/: nothing else can be signed");
    };
    let signed = keys.sign(path, url.query().unwrap_or_default(), key, expires);
    let signed = signed.with_context(|| format!("there is no key {key}"))?;
    url.set_query(Some(&signed));
    let whole = url.to_string();
    Ok(base
        .and_then(|base| whole.strip_prefix(base))
        .unwrap_or(&whole)
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_signed_as_the_server_sees_it() {
        let keys = UrlKeys::read("k:0123456789abcdef").unwrap();
        let path = "/v1/videos/a%2Fb.mp4/frame.jpg";
        for before in ["", "http://h:3000", "https://cdn.example/media"] {
            let signed = sign(&format!("{before}{path}?frame=7"), &keys, "k", 1000).unwrap();
            let query = signed
                .strip_prefix(before)
                .unwrap()
                .strip_prefix(path)
                .unwrap();
            let query = query.strip_prefix('?').unwrap();
            assert!(
                query.starts_with("frame=7&key=k&expires=1000&signature="),
                "{query}"
            );
            assert!(keys.check(path, query, UNIX_EPOCH).is_ok());
        }
        // What is not ASCII is written as clients send it.
        let signed = sign("/v1/videos/é b/frame.jpg", &keys, "k", 1000).unwrap();
        assert!(
            signed.starts_with("/v1/videos/%C3%A9%20b/frame.jpg?key=k&"),
            "{signed}"
        );
        for (url, says) in [
            ("/v1/videos", "not below"),
            ("/v1/openapi.json", "not below"),
            ("ftp://h/v1/videos/a", "no http"),
            ("h/v1/videos/a", "no URL"),
        ] {
            let refused = sign(url, &keys, "k", 1).unwrap_err();
            assert!(format!("{refused:#}").contains(says), "{refused:#}");
        }
        let refused = sign("/v1/videos/a", &keys, "other", 1).unwrap_err();
        assert_eq!(refused.to_string(), "there is no key other");
    }
}
