//! Numbers of bytes as people write them: `8388608`, `512MiB`, `2 GiB`.

/// Reads a number of bytes; `None` for anything else.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let shift = match unit.trim_start() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn bytes_and_binary_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1", 1),
            (" 8388608 ", 8 << 20),
            ("17B", 17),
            ("4KiB", 4096),
            ("512MiB", 512 << 20),
            ("2 GiB", 2 << 30),
            ("1TiB", 1 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_clear_is_not_guessed() {
        for text in [
            "",
            "MiB",
            "-1",
            "1.5GiB",
            "1e6",
            "1,000",
            "512MB",
            "512M",
            "512mib",
            "512MiB/s",
            "5 1 2",
            "18446744073709551616",
            "16777216TiB",
            "ä",
            "1ä",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
