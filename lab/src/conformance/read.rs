//! From a file's name to its content and its suite: YAML or JSON, either also compressed.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;
use serde_json::Value;

/// Which module judges a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Services.
    Services,
    /// NetworkPolicy and ClusterNetworkPolicy.
    Policy,
    /// The cluster DNS server.
    Dns,
}

/// A file as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// Its suite.
    pub suite: Suite,
    /// All of it.
    pub value: Value,
}

/// Reads a file.
///
/// # Errors
/// When it cannot be read or names no suite that is known.
pub fn file(path: &Path) -> Result<Content> {
    let open = File::open(path).context("failed to open it")?;
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let (name, mut reader): (&str, Box<dyn Read>) = match name.strip_suffix(".gz") {
        Some(name) => (name, Box::new(MultiGzDecoder::new(BufReader::new(open)))),
        None => (&name, Box::new(open)),
    };
    let mut text = String::new();
    reader
        .read_to_string(&mut text)
        .context("failed to read it")?;
    let value = match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("yaml" | "yml") => serde_saphyr::from_str(&text).context("it is no YAML")?,
        Some("json") => serde_json::from_str(&text).context("it is no JSON")?,
        _ => bail!("the name ends neither with .yaml nor with .json (nor those with .gz)"),
    };
    Ok(Content {
        suite: suite(&value)?,
        value,
    })
}

fn suite(value: &Value) -> Result<Suite> {
    // A bare list of steps is a policy suite.
    if value.is_array() {
        return Ok(Suite::Policy);
    }
    match value.get("suite").and_then(Value::as_str) {
        Some("services") => Ok(Suite::Services),
        Some("policy") => Ok(Suite::Policy),
        Some("dns") => Ok(Suite::Dns),
        Some(other) => bail!("suite {other:?} is not known; there are services, policy and dns"),
        None => bail!("it does not say its `suite`"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_compressed_file_reads_as_the_plain_one() {
        let dir = tempfile::tempdir().unwrap();
        let text = "suite: services\nname: x\nstages: []\n";
        let plain = dir.path().join("a.yaml");
        std::fs::write(&plain, text).unwrap();
        let packed = dir.path().join("a.yaml.gz");
        let mut encoder = flate2::write::GzEncoder::new(
            File::create(&packed).unwrap(),
            flate2::Compression::default(),
        );
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap();
        assert_eq!(file(&plain).unwrap(), file(&packed).unwrap());
    }

    #[test]
    fn what_is_not_a_suite_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let said = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            format!("{:#}", file(&path).unwrap_err())
        };
        assert!(said("a.yaml", "name: x").contains("suite"));
        assert!(said("b.json", r#"{"suite": "weather"}"#).contains("weather"));
        assert!(said("c.txt", "suite: services").contains(".yaml"));
        assert!(said("d.json", "{").contains("JSON"));
        assert!(file(&dir.path().join("none.yaml")).is_err());
    }
}
