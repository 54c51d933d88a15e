//! Files of `suite: policy` (tests/conformance/README.md): steps that each hold their whole world.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// A state of a cluster.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct World {
    pub pods: Vec<Pod>,
    pub namespaces: Vec<Labelled>,
    pub nodes: Vec<Node>,
    pub policies: Vec<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pod {
    pub name: String,
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
    pub ips: Vec<IpAddr>,
    pub node: String,
    pub host_network: bool,
    pub containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Container {
    pub ports: Vec<Port>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    pub name: Option<String>,
    pub container_port: u16,
    pub protocol: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Labelled {
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub ips: Vec<IpAddr>,
}

/// Who may reach whom, or may not.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub from: String,
    pub to: String,
    pub port: u16,
    pub proto: String,
    pub family: Option<u8>,
    pub combined: String,
}

/// A state and what holds in it.
#[derive(Clone, Debug)]
pub struct Step {
    pub name: String,
    pub world: World,
    pub rows: Vec<Row>,
}

impl Row {
    pub fn allowed(&self) -> bool {
        match self.combined.as_str() {
            "allowed" => true,
            "blocked" => false,
            other => panic!("combined is {other}"),
        }
    }
}

impl World {
    pub fn pod(&self, name: &str) -> Option<&Pod> {
        let (namespace, name) = name.split_once('/')?;
        let mut pods = self.pods.iter();
        pods.find(|pod| pod.namespace == namespace && pod.name == name)
    }

    /// The addresses of an end of a row.
    pub fn addresses(&self, end: &str) -> Vec<IpAddr> {
        match self.pod(end) {
            Some(pod) => pod.ips.clone(),
            None => vec![end.parse().unwrap_or_else(|_| panic!("who is {end}?"))],
        }
    }

    pub fn address(&self, end: &str, family: u8) -> Option<IpAddr> {
        let mut all = self.addresses(end).into_iter();
        all.find(|address| address.is_ipv4() == (family == 4))
    }

    /// The families that a row is to be judged in.
    pub fn families(&self, row: &Row) -> Vec<u8> {
        let families = row.family.map_or(vec![4, 6], |family| vec![family]);
        let both = |family: &u8| {
            self.address(&row.from, *family).is_some() && self.address(&row.to, *family).is_some()
        };
        let families: Vec<u8> = families.into_iter().filter(both).collect();
        assert!(!families.is_empty(), "{row:?} has no family");
        families
    }
}

/// Every file of the suite.
pub fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance/policy");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().is_some_and(|name| name != "README.md"));
    files.sort();
    files
}

/// The steps of a file.
pub fn steps(file: &Path) -> Vec<Step> {
    let bytes = std::fs::read(file).unwrap();
    let text = if file.extension().is_some_and(|end| end == "gz") {
        let mut text = String::new();
        let mut decoder = flate2::read::GzDecoder::new(bytes.as_slice());
        decoder.read_to_string(&mut text).unwrap();
        text
    } else {
        String::from_utf8(bytes).unwrap()
    };
    let file: Value = if text.trim_start().starts_with(['{', '[']) {
        serde_json::from_str(&text).unwrap()
    } else {
        serde_saphyr::from_str(&text).unwrap()
    };
    let (cluster, steps) = match file {
        Value::Array(steps) => (Value::Null, steps),
        Value::Object(mut file) => {
            let steps = file.remove("steps").unwrap();
            let cluster = file.remove("cluster").unwrap_or_default();
            (cluster, steps.as_array().unwrap().clone())
        }
        other => panic!("{other}"),
    };
    let base: World = serde_json::from_value(cluster).unwrap_or_default();
    steps.into_iter().map(|step| read(&base, step)).collect()
}

fn read(base: &World, step: Value) -> Step {
    let list = |key: &str| step.get(key).cloned();
    let mut world = base.clone();
    if let Some(pods) = list("pods") {
        world.pods = serde_json::from_value(pods).unwrap();
    }
    if let Some(namespaces) = list("namespaces") {
        world.namespaces = serde_json::from_value(namespaces).unwrap();
    }
    if let Some(nodes) = list("nodes") {
        world.nodes = serde_json::from_value(nodes).unwrap();
    }
    world.policies = serde_json::from_value(list("policies").unwrap()).unwrap();
    let number = step.get("step").map(Value::to_string).unwrap_or_default();
    Step {
        name: format!("{} {number}", step["case"].as_str().unwrap()),
        rows: serde_json::from_value(list("rows").unwrap()).unwrap(),
        world,
    }
}
