//! Turns standard input into a checked network configuration.
//!
//! Standard input is never repeated in messages, except the single value that is wrong.

use std::io::Read;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::environment::{excerpt, is_identifier, is_plain_path};
use crate::error::{CniError, code};
use crate::result::CniResult;
use crate::version::Version;
use crate::wire::{
    DEFAULT_READY_FILE, DEFAULT_SOCKET, DEFAULT_SPOOL, MAX_MESSAGE, PortMapping, Valid,
};

/// What the network configuration asks, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The version to answer in.
    pub version: Version,
    /// Where the agent listens.
    pub socket: PathBuf,
    /// Where a DEL waits that no agent answers.
    pub spool_dir: PathBuf,
    /// Says that the agent has been ready since the node booted.
    pub ready_file: PathBuf,
    /// Capability `portMappings`, without those that ask for nothing.
    pub port_mappings: Vec<PortMapping>,
    /// The list of `cni.dev/valid-attachments`; `None` where the key is absent.
    pub valid_attachments: Option<Vec<Valid>>,
    /// What the plugin before this one answered, or this one at ADD.
    pub previous: Option<CniResult>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawConfig {
    #[serde(default)]
    name: String,
    #[serde(default)]
    socket: Option<String>,
    #[serde(default)]
    spool_dir: Option<String>,
    #[serde(default)]
    ready_file: Option<String>,
    #[serde(default)]
    ipam: Option<Value>,
    #[serde(default)]
    runtime_config: Option<RuntimeConfig>,
    #[serde(default, rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<Valid>>,
    #[serde(default)]
    prev_result: Option<CniResult>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeConfig {
    #[serde(default)]
    port_mappings: Option<Vec<PortMapping>>,
}

/// Reads standard input up to the longest that is accepted.
///
/// # Errors
/// Code 5 where reading fails, code 6 beyond one mebibyte.
pub fn read(input: impl Read) -> Result<Vec<u8>, CniError> {
    let mut bytes = Vec::new();
    let limit = MAX_MESSAGE as u64 + 1;
    input.take(limit).read_to_end(&mut bytes).map_err(|error| {
        CniError::new(
            code::IO,
            "failed to read the network configuration",
            error.to_string(),
        )
    })?;
    if bytes.len() > MAX_MESSAGE {
        let details = format!("standard input is longer than {MAX_MESSAGE} bytes");
        return Err(CniError::new(
            code::DECODE,
            "network configuration is too long",
            details,
        ));
    }
    Ok(bytes)
}

/// Decodes JSON, whatever it says.
///
/// # Errors
/// Code 6 for what is not a JSON object.
pub fn decode(bytes: &[u8]) -> Result<Value, CniError> {
    let fail =
        |details: String| CniError::new(code::DECODE, "network configuration is not JSON", details);
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        fail(format!(
            "standard input, line {}, column {}: {}",
            error.line(),
            error.column(),
            kind(&error)
        ))
    })?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(fail("standard input is JSON but not an object".to_owned()))
    }
}

impl Config {
    /// Checks a decoded configuration.
    ///
    /// # Errors
    /// Code 1 for a version not spoken, 2 for a field that cannot be honoured, 7 for a wrong value.
    pub fn of(value: Value) -> Result<Self, CniError> {
        let version = Version::of(&value)?;
        for field in ["prevResult", "runtimeConfig"] {
            if value
                .get(field)
                .is_some_and(|value| !value.is_object() && !value.is_null())
            {
                return Err(invalid(format!("{field} is not an object")));
            }
        }
        let raw: RawConfig =
            serde_json::from_value(value).map_err(|error| invalid(format!("{error}")))?;
        if !is_identifier(&raw.name, 253) {
            return Err(invalid(format!(
                "name is {:?}; write letters, digits, '_', '.', '-', beginning with a letter or digit",
                excerpt(&raw.name)
            )));
        }
        if raw
            .ipam
            .as_ref()
            .is_some_and(|ipam| ipam.get("type").is_some_and(|kind| kind != ""))
        {
            return Err(CniError::new(
                code::UNSUPPORTED_FIELD,
                "field ipam is not supported",
                "addresses come from IPPools through the node's agent; remove ipam",
            ));
        }
        Ok(Self {
            version,
            socket: path("socket", raw.socket, DEFAULT_SOCKET)?,
            spool_dir: path("spoolDir", raw.spool_dir, DEFAULT_SPOOL)?,
            ready_file: path("readyFile", raw.ready_file, DEFAULT_READY_FILE)?,
            port_mappings: port_mappings(raw.runtime_config)?,
            valid_attachments: raw.valid_attachments,
            previous: raw.prev_result,
        })
    }
}

fn path(field: &str, given: Option<String>, default: &str) -> Result<PathBuf, CniError> {
    let text = given.as_deref().unwrap_or(default);
    if is_plain_path(text) {
        Ok(PathBuf::from(text))
    } else {
        Err(invalid(format!(
            "{field} is {:?}; write an absolute path without '..'",
            excerpt(text)
        )))
    }
}

fn port_mappings(runtime: Option<RuntimeConfig>) -> Result<Vec<PortMapping>, CniError> {
    let given = runtime
        .and_then(|runtime| runtime.port_mappings)
        .unwrap_or_default();
    let mut checked = Vec::new();
    for mut mapping in given.into_iter().filter(|mapping| mapping.host_port != 0) {
        mapping.protocol.make_ascii_lowercase();
        if !["tcp", "udp", "sctp"].contains(&mapping.protocol.as_str()) {
            let given = excerpt(&mapping.protocol);
            return Err(invalid(format!(
                "portMappings: protocol is {given:?}; write tcp, udp or sctp"
            )));
        }
        if mapping.container_port == 0 {
            let port = mapping.host_port;
            return Err(invalid(format!(
                "portMappings: hostPort {port} has containerPort 0; write 1 to 65535"
            )));
        }
        if !mapping.host_ip.is_empty() && mapping.host_ip.parse::<std::net::IpAddr>().is_err() {
            let given = excerpt(&mapping.host_ip);
            return Err(invalid(format!(
                "portMappings: hostIP is {given:?}; write an IP address or nothing"
            )));
        }
        checked.push(mapping);
    }
    Ok(checked)
}

fn invalid(details: String) -> CniError {
    CniError::new(
        code::CONFIG,
        "network configuration is wrong",
        excerpt_long(&details),
    )
}

/// Messages of the decoder may quote the input; a message has its bounds.
fn excerpt_long(text: &str) -> String {
    text.chars().take(300).collect()
}

fn kind(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Io => "it could not be read",
        _ => "not JSON",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(field: &str, value: Value) -> Value {
        let mut config = json!({"cniVersion": "1.1.0", "name": "weftnet", "type": "weft-cni"});
        config[field] = value;
        config
    }

    #[test]
    fn a_configuration_has_defaults() {
        let config = Config::of(with("capabilities", json!({"portMappings": true}))).unwrap();
        assert_eq!(config.socket, PathBuf::from(DEFAULT_SOCKET));
        assert_eq!(config.valid_attachments, None);
        assert!(config.port_mappings.is_empty());
    }

    #[test]
    fn wrong_values_are_refused_with_their_code() {
        let mapping = |mapping: Value| json!({"portMappings": [mapping]});
        let rows = [
            ("cniVersion", json!("0.3.0"), code::VERSION),
            ("name", json!(""), code::CONFIG),
            ("name", json!("../x"), code::CONFIG),
            ("name", json!(7), code::CONFIG),
            ("socket", json!("run/sock"), code::CONFIG),
            ("spoolDir", json!("/var/../etc"), code::CONFIG),
            ("readyFile", json!("/run/../etc/passwd"), code::CONFIG),
            (
                "ipam",
                json!({"type": "host-local"}),
                code::UNSUPPORTED_FIELD,
            ),
            (
                "runtimeConfig",
                mapping(json!({"hostPort": 80, "containerPort": 0})),
                code::CONFIG,
            ),
            (
                "runtimeConfig",
                mapping(json!({"hostPort": 70000, "containerPort": 80})),
                code::CONFIG,
            ),
            (
                "runtimeConfig",
                mapping(json!({"hostPort": 80, "containerPort": 80, "protocol": "icmp"})),
                code::CONFIG,
            ),
            (
                "runtimeConfig",
                mapping(json!({"hostPort": 80, "containerPort": 80, "hostIP": "x"})),
                code::CONFIG,
            ),
            ("cni.dev/valid-attachments", json!("all"), code::CONFIG),
            ("prevResult", json!([]), code::CONFIG),
        ];
        for (field, value, wanted) in rows {
            let error = Config::of(with(field, value.clone())).unwrap_err();
            assert_eq!(error.code, wanted, "{field}: {value}: {error}");
        }
    }

    #[test]
    fn port_mappings_are_normalised_and_port_0_asks_for_nothing() {
        let config = Config::of(with(
            "runtimeConfig",
            json!({"portMappings": [
                {"hostPort": 8080, "containerPort": 80, "protocol": "TCP", "hostIP": ""},
                {"hostPort": 0, "containerPort": 81, "protocol": "udp"},
            ]}),
        ))
        .unwrap();
        assert_eq!(config.port_mappings.len(), 1);
        assert_eq!(config.port_mappings[0].protocol, "tcp");
    }

    #[test]
    fn an_absent_list_of_attachments_differs_from_an_empty_one() {
        let key = "cni.dev/valid-attachments";
        assert_eq!(
            Config::of(with("x", json!(1))).unwrap().valid_attachments,
            None
        );
        assert_eq!(
            Config::of(with(key, json!([]))).unwrap().valid_attachments,
            Some(vec![])
        );
        let one = json!([{"containerID": "a", "ifname": "eth0"}]);
        assert_eq!(
            Config::of(with(key, one))
                .unwrap()
                .valid_attachments
                .map(|list| list.len()),
            Some(1)
        );
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        let megabyte = vec![b' '; 1_000_000];
        let nul = vec![0_u8; 1_000_000];
        let deep = "[".repeat(100_000);
        let rows: [&[u8]; 8] = [
            b"",
            b"null",
            b"[]",
            b"{",
            b"\xff\xfe",
            &megabyte,
            &nul,
            deep.as_bytes(),
        ];
        for bytes in rows {
            assert_eq!(decode(bytes).unwrap_err().code, code::DECODE);
        }
    }

    #[test]
    fn input_beyond_the_limit_is_refused() {
        assert_eq!(read(std::io::repeat(b' ')).unwrap_err().code, code::DECODE);
        assert_eq!(read(&b"{}"[..]).unwrap(), b"{}");
    }
}
