//! Turns the CNI_… variables into checked values, and refuses what could mean a path or another
//! object than the one named.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path};

use crate::error::{CniError, code};

/// The longest container id, so that a spool file's name fits the file system.
const LONGEST_ID: usize = 200;

/// What the runtime asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Give a sandbox an interface.
    Add,
    /// Take it away.
    Del,
    /// Compare it with the kernel.
    Check,
    /// Release what is not in a list.
    Gc,
    /// Could a pod be served?
    Status,
    /// Which versions are spoken?
    Version,
}

/// The CNI_… variables of one call, not yet checked for a verb.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

/// Who the sandbox is, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_NETNS`; may be empty for DEL.
    pub netns: String,
    /// `K8S_POD_NAMESPACE`.
    pub pod_namespace: String,
    /// `K8S_POD_NAME`.
    pub pod_name: String,
    /// `K8S_POD_UID`; may be empty.
    pub pod_uid: String,
}

impl Environment {
    /// Takes the CNI_… variables out of an environment.
    ///
    /// # Errors
    /// Code 4 for a value that is not UTF-8.
    pub fn of(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<Self, CniError> {
        let mut found = BTreeMap::new();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with("CNI_")) else {
                continue;
            };
            let value = value
                .into_string()
                .map_err(|_| wrong(name, "is not UTF-8", ""))?;
            found.insert(name.to_owned(), value);
        }
        Ok(Self(found))
    }

    /// Whether nobody speaks CNI to this process.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `CNI_COMMAND`.
    ///
    /// # Errors
    /// Code 4 where it is absent or no verb of CNI.
    pub fn verb(&self) -> Result<Verb, CniError> {
        match self.get("CNI_COMMAND") {
            "ADD" => Ok(Verb::Add),
            "DEL" => Ok(Verb::Del),
            "CHECK" => Ok(Verb::Check),
            "GC" => Ok(Verb::Gc),
            "STATUS" => Ok(Verb::Status),
            "VERSION" => Ok(Verb::Version),
            other => Err(wrong(
                "CNI_COMMAND",
                "must be ADD, DEL, CHECK, GC, STATUS or VERSION",
                other,
            )),
        }
    }

    /// The sandbox, for ADD, CHECK and DEL. DEL may come without namespace and without pod.
    ///
    /// # Errors
    /// Code 4, naming the variable and what it must be.
    pub fn sandbox(&self, verb: Verb) -> Result<Sandbox, CniError> {
        let container_id = self.get("CNI_CONTAINERID");
        if !is_identifier(container_id, LONGEST_ID) {
            let rule = "must start with a letter or digit and have only letters, digits, '_', '.', '-', 200 at most";
            return Err(wrong("CNI_CONTAINERID", rule, container_id));
        }
        let ifname = self.get("CNI_IFNAME");
        if !is_interface_name(ifname) {
            let rule = "must be an interface name: 1 to 15 bytes without '/', ':' and blanks, not '.', '..', 'lo', 'all', 'default'";
            return Err(wrong("CNI_IFNAME", rule, ifname));
        }
        let netns = self.get("CNI_NETNS");
        if !(is_plain_path(netns) || netns.is_empty() && verb == Verb::Del) {
            return Err(wrong(
                "CNI_NETNS",
                "must be an absolute path without '..'",
                netns,
            ));
        }
        let [pod_namespace, pod_name, pod_uid] = self.pod(verb)?;
        Ok(Sandbox {
            container_id: container_id.to_owned(),
            ifname: ifname.to_owned(),
            netns: netns.to_owned(),
            pod_namespace,
            pod_name,
            pod_uid,
        })
    }

    fn pod(&self, verb: Verb) -> Result<[String; 3], CniError> {
        let arguments: BTreeMap<&str, &str> = self
            .get("CNI_ARGS")
            .split(';')
            .filter_map(|pair| pair.split_once('='))
            .collect();
        let rows = [
            ("K8S_POD_NAMESPACE", verb != Verb::Add),
            ("K8S_POD_NAME", verb != Verb::Add),
            ("K8S_POD_UID", true),
        ];
        let mut values = [String::new(), String::new(), String::new()];
        for ((key, may_be_absent), value) in rows.into_iter().zip(&mut values) {
            let given = arguments.get(key).copied().unwrap_or("");
            if !(is_identifier(given, 253) || given.is_empty() && may_be_absent) {
                let rule = format!("must have {key} as Kubernetes names it");
                return Err(wrong("CNI_ARGS", &rule, given));
            }
            given.clone_into(value);
        }
        Ok(values)
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// Letters, digits, `_`, `.`, `-`, beginning with a letter or digit.
pub fn is_identifier(text: &str, longest: usize) -> bool {
    text.len() <= longest
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// What Linux accepts as an interface's name (`dev_valid_name`), less the names that mean
/// something else below `/proc/sys/net`.
pub fn is_interface_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && ![".", "..", "lo", "all", "default"].contains(&text)
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"/:".contains(&byte))
}

/// An absolute path that says where it leads: no `..`, no NUL.
pub fn is_plain_path(text: &str) -> bool {
    text.len() < 4096
        && text.starts_with('/')
        && !text.contains('\0')
        && Path::new(text)
            .components()
            .all(|part| part != Component::ParentDir)
}

/// The beginning of a foreign text, for a message.
pub fn excerpt(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn wrong(variable: &str, rule: &str, value: &str) -> CniError {
    CniError::new(
        code::ENVIRONMENT,
        format!("environment variable {variable} is missing or wrong"),
        format!("{variable} {rule}; it is {:?}", excerpt(value)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGS: &str =
        "IgnoreUnknown=1;K8S_POD_UID=u-1;K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=default";

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::of(
            pairs
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into())),
        )
        .unwrap()
    }

    #[test]
    fn a_sandbox_is_read_whatever_the_order_of_arguments() {
        let environment = environment(&[
            ("CNI_CONTAINERID", "abc"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", "/run/netns/x"),
            ("CNI_ARGS", ARGS),
            ("PATH", "/bin"),
        ]);
        let sandbox = environment.sandbox(Verb::Add).unwrap();
        assert_eq!(
            (
                sandbox.pod_namespace.as_str(),
                sandbox.pod_name.as_str(),
                sandbox.pod_uid.as_str()
            ),
            ("default", "web-0", "u-1")
        );
    }

    #[test]
    fn wrong_values_are_refused_naming_the_variable() {
        let good = [
            ("CNI_CONTAINERID", "abc"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", "/run/netns/x"),
            ("CNI_ARGS", ARGS),
        ];
        let long = "a".repeat(201);
        let rows = [
            ("CNI_CONTAINERID", ""),
            ("CNI_CONTAINERID", "../../etc/passwd"),
            ("CNI_CONTAINERID", ".hidden"),
            ("CNI_CONTAINERID", "a/b"),
            ("CNI_CONTAINERID", long.as_str()),
            ("CNI_IFNAME", ""),
            ("CNI_IFNAME", "sixteen-bytes-xx"),
            ("CNI_IFNAME", ".."),
            ("CNI_IFNAME", "a/b"),
            ("CNI_IFNAME", "all"),
            ("CNI_IFNAME", "a b"),
            ("CNI_NETNS", ""),
            ("CNI_NETNS", "run/netns/x"),
            ("CNI_NETNS", "/run/netns/../../etc"),
            ("CNI_ARGS", ""),
            ("CNI_ARGS", "K8S_POD_NAMESPACE=a"),
            ("CNI_ARGS", "K8S_POD_NAMESPACE=../a;K8S_POD_NAME=b"),
            ("CNI_ARGS", "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b/c"),
            (
                "CNI_ARGS",
                "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_UID=/",
            ),
        ];
        assert!(environment(&good).sandbox(Verb::Add).is_ok());
        for (name, value) in rows {
            let pairs: Vec<_> = good
                .iter()
                .map(|pair| if pair.0 == name { (name, value) } else { *pair })
                .collect();
            let error = environment(&pairs).sandbox(Verb::Add).unwrap_err();
            assert_eq!(error.code, code::ENVIRONMENT, "{name}={value}");
            assert!(error.msg.contains(name), "{error}");
        }
    }

    #[test]
    fn a_repeated_del_comes_without_namespace_and_pod() {
        let pairs = [
            ("CNI_CONTAINERID", "abc"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", ""),
        ];
        assert!(environment(&pairs).sandbox(Verb::Del).is_ok());
        assert!(environment(&pairs).sandbox(Verb::Add).is_err());
    }

    #[test]
    fn an_unknown_verb_is_refused() {
        for verb in ["", "add", "FROBNICATE"] {
            assert_eq!(
                environment(&[("CNI_COMMAND", verb)])
                    .verb()
                    .unwrap_err()
                    .code,
                code::ENVIRONMENT
            );
        }
        assert_eq!(environment(&[("CNI_COMMAND", "GC")]).verb(), Ok(Verb::Gc));
    }
}
