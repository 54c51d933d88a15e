//! CNI versions: which ones are spoken, and what each of them knows.

use serde_json::Value;

use crate::error::{CniError, code};

/// A version of the CNI specification that the plugin speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `0.4.0`: CHECK; results say `version` of each address.
    V0_4_0,
    /// `1.0.0`: results no longer say `version`.
    V1_0_0,
    /// `1.1.0`: GC and STATUS; MTU in results.
    V1_1_0,
}

impl Version {
    /// All, oldest first.
    pub const ALL: [Self; 3] = [Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Reads `cniVersion` of a configuration.
    ///
    /// # Errors
    /// Code 1 where it is absent or none of ours.
    pub fn of(config: &Value) -> Result<Self, CniError> {
        let asked = config
            .get("cniVersion")
            .and_then(Value::as_str)
            .unwrap_or("");
        Self::ALL.into_iter().find(|version| version.as_str() == asked).ok_or_else(|| {
            CniError::new(
                code::VERSION,
                "incompatible CNI version",
                format!(
                    "cniVersion is {:?}; write one of 0.4.0, 1.0.0, 1.1.0 into the network configuration",
                    crate::environment::excerpt(asked)
                ),
            )
        })
    }
}

/// What VERSION answers.
pub fn answer() -> Value {
    serde_json::json!({
        "cniVersion": Version::V1_1_0.as_str(),
        "supportedVersions": Version::ALL.map(Version::as_str),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_read_and_others_refused() {
        let rows = [
            ("0.4.0", Some(Version::V0_4_0)),
            ("1.0.0", Some(Version::V1_0_0)),
            ("1.1.0", Some(Version::V1_1_0)),
            ("0.3.1", None),
            ("2.0.0", None),
            ("", None),
            ("1.1.0\n", None),
        ];
        for (text, wanted) in rows {
            let got = Version::of(&serde_json::json!({"cniVersion": text}));
            assert_eq!(got.clone().ok(), wanted, "{text:?}");
            if let Err(error) = got {
                assert_eq!(error.code, code::VERSION);
            }
        }
        assert_eq!(
            Version::of(&serde_json::json!({})).unwrap_err().code,
            code::VERSION
        );
        assert_eq!(
            Version::of(&serde_json::json!({"cniVersion": 1}))
                .unwrap_err()
                .code,
            code::VERSION
        );
    }
}
