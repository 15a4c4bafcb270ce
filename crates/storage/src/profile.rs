//! The files that AWS tools share: `~/.aws/credentials` and `~/.aws/config`.

use std::path::PathBuf;

use crate::credentials::{KeyPair, Surroundings};

/// The profile that counts, and whether it was asked for by name.
pub(crate) fn name(around: &Surroundings<'_>) -> (String, bool) {
    match around.set("AWS_PROFILE") {
        Some(name) => (name, true),
        None => ("default".into(), false),
    }
}

/// The profile's keys.
pub(crate) fn keys(around: &Surroundings<'_>, profile: &str) -> Option<KeyPair> {
    let text = read(around, "AWS_SHARED_CREDENTIALS_FILE", "credentials");
    let value = |key| value(&text, profile, key);
    Some(KeyPair {
        access_key: value("aws_access_key_id")?,
        secret_key: value("aws_secret_access_key")?,
        token: value("aws_session_token"),
    })
}

/// The profile's region.
pub(crate) fn region(around: &Surroundings<'_>) -> Option<String> {
    let (profile, _) = name(around);
    // In this file all sections but the default one's have a word before the name.
    let section = match profile.as_str() {
        "default" => profile.clone(),
        named => format!("profile {named}"),
    };
    let config = read(around, "AWS_CONFIG_FILE", "config");
    value(&config, &section, "region").or_else(|| {
        let credentials = read(around, "AWS_SHARED_CREDENTIALS_FILE", "credentials");
        value(&credentials, &profile, "region")
    })
}

fn read(around: &Surroundings<'_>, variable: &str, file: &str) -> String {
    let named = around.set(variable).map(PathBuf::from);
    let path = named.or_else(|| {
        let home = around.set("HOME")?;
        Some(PathBuf::from(home).join(".aws").join(file))
    });
    path.and_then(|p| (around.read)(&p)).unwrap_or_default()
}

/// The value of a key in one section: `[section]`, then `key = value` lines; `#` and `;` comment.
fn value(text: &str, section: &str, key: &str) -> Option<String> {
    let mut inside = false;
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            let words = name.split_whitespace();
            inside = words.eq(section.split_whitespace());
        } else if inside
            && !line.starts_with(['#', ';'])
            && let Some((k, value)) = line.split_once('=')
            && k.trim() == key
        {
            found = Some(value.trim().to_owned()).filter(|v| !v.is_empty());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::tests::FILE;

    #[test]
    fn a_section_is_read_to_its_end_only() {
        let of = |section, key| value(FILE, section, key);
        assert_eq!(
            of("lab", "aws_secret_access_key").as_deref(),
            Some("SK=LAB")
        );
        assert_eq!(of("lab", "aws_session_token").as_deref(), Some("TOKEN"));
        assert_eq!(of("default", "aws_session_token"), None);
        assert_eq!(of("empty", "aws_access_key_id"), None);
    }

    #[test]
    fn the_region_is_the_profiles() {
        const CONFIG: &str = "[default]\nregion = eu-west-1\n[profile lab]\nregion=ap-south-1\n";
        let region = |variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = variables.iter().find(|v| v.0 == name);
                found.map(|v| v.1.to_owned())
            };
            let read = |path: &PathBuf| match path.to_str() {
                Some("/home/u/.aws/config" | "/c") => Some(CONFIG.to_owned()),
                Some("/home/v/.aws/credentials") => Some(FILE.to_owned()),
                _ => None,
            };
            super::region(&Surroundings {
                variable: &variable,
                read: &read,
            })
        };
        let home = ("HOME", "/home/u");
        assert_eq!(region(&[home]).as_deref(), Some("eu-west-1"));
        let lab = ("AWS_PROFILE", "lab");
        assert_eq!(region(&[home, lab]).as_deref(), Some("ap-south-1"));
        let file = ("AWS_CONFIG_FILE", "/c");
        assert_eq!(region(&[file]).as_deref(), Some("eu-west-1"));
        let other = [("HOME", "/home/v")];
        assert_eq!(region(&other).as_deref(), Some("eu-central-1"));
        assert_eq!(region(&[]), None);
    }
}
