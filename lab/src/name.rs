//! The name of a lab, checked once at the edge.
//!
//! Everything that one lab makes is found again by its name: state folder and cgroups. Two labs with
//! different names never meet.

use std::fmt;
use std::str::FromStr;

/// A lab's name: 1 to 20 characters of `a-z`, `0-9` and `-`, starting with a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabName(String);

impl LabName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LabName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let valid = (1..=20).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(allowed);
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "the lab name {text:?} is not usable: take 1 to 20 characters of a-z, 0-9 and -, starting with a letter"
            ))
        }
    }
}

impl TryFrom<String> for LabName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<LabName> for String {
    fn from(name: LabName) -> Self {
        name.0
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_state_folder_are_refused() {
        for bad in ["", "..", "a/b", "A", "1a", "a b", "aaaaaaaaaaaaaaaaaaaaa"] {
            assert!(bad.parse::<LabName>().is_err(), "{bad:?} was accepted");
        }
        for good in ["a", "default", "ipv6-only", "n1"] {
            assert_eq!(good.parse::<LabName>().unwrap().as_str(), good);
        }
    }
}
