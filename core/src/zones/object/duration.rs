//! Durations as the API writes them, such as `1m30s`.

use std::time::Duration;

/// Reads numbers with the units ms, s, m and h.
pub fn parse(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|letter: char| letter.is_ascii_digit())
            .unwrap_or(rest.len());
        let millis = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = &rest[letters..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_are_durations() {
        let millis = |text| parse(text).map(|duration| duration.as_millis());
        assert_eq!(millis("1m30s"), Some(90_000));
        assert_eq!(millis("250ms"), Some(250));
        assert_eq!(millis("24h"), Some(86_400_000));
        for text in ["", "5", "s", "5 s", "-5s", "1d", "99999999999999999999s"] {
            assert_eq!(millis(text), None, "{text:?}");
        }
    }
}
