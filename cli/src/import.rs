//! The DnsZones that say what another cluster DNS was configured to do, and what they could not say: from a file or a cluster to YAML.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use serde::Serialize;
use weft_core::zones::import::plugins::Origin;
use weft_core::zones::import::{Imported, corefile, kube_dns, plugins};
use weft_crds::DnsZoneSpec;

/// Whose configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// CoreDNS's.
    Corefile,
    /// That of kube-dns.
    KubeDns,
}

impl Kind {
    /// The ConfigMap that kubeadm and most others make.
    fn config_map(self) -> &'static str {
        match self {
            Self::Corefile => "coredns",
            Self::KubeDns => "kube-dns",
        }
    }
}

/// The namespace of these ConfigMaps.
const NAMESPACE: &str = "kube-system";
/// The entry with the Corefile.
const COREFILE: &str = "Corefile";

/// Translates a file; `-` is standard input.
///
/// # Errors
/// It cannot be read.
pub fn file(kind: Kind, path: &Path) -> Result<Imported> {
    let text = read(path)?;
    match (kind, config_map(&text)) {
        (_, Some(map)) => from_map(kind, map),
        (Kind::Corefile, None) => Ok(plugins::translate(
            &corefile::parse(&text)?,
            &Origin::default(),
        )),
        (Kind::KubeDns, None) => bail!(
            "the file is no ConfigMap: kubectl get configmap kube-dns -n kube-system -o yaml prints it"
        ),
    }
}

/// Translates what a cluster has.
///
/// # Errors
/// The ConfigMap is not there, or cannot be read.
pub async fn cluster(kind: Kind, client: Client) -> Result<Imported> {
    let name = kind.config_map();
    let api: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let map = api.get(name).await.with_context(|| {
        format!("failed to read ConfigMap {NAMESPACE}/{name}: name a file instead")
    })?;
    from_map(kind, map)
}

fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

/// A ConfigMap as kubectl prints it.
fn config_map(text: &str) -> Option<ConfigMap> {
    let value: serde_json::Value = serde_saphyr::from_str(text).ok()?;
    let is_map = value.get("kind").and_then(serde_json::Value::as_str) == Some("ConfigMap");
    is_map.then(|| serde_json::from_value(value).ok()).flatten()
}

fn from_map(kind: Kind, map: ConfigMap) -> Result<Imported> {
    let entries = map.data.unwrap_or_default();
    if kind == Kind::KubeDns {
        return Ok(kube_dns::translate(&entries)?);
    }
    let origin = Origin {
        namespace: map.metadata.namespace.unwrap_or_default(),
        name: map.metadata.name.unwrap_or_default(),
        keys: entries.keys().cloned().collect(),
    };
    let text = entries
        .get(COREFILE)
        .with_context(|| format!("the ConfigMap has no entry {COREFILE}"))?;
    Ok(plugins::translate(&corefile::parse(text)?, &origin))
}

/// As it is applied: without what only a server sets.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: BTreeMap<&'static str, &'a str>,
    spec: &'a DnsZoneSpec,
}

/// What could not be said, what is to be done by hand, and the objects.
///
/// # Errors
/// None that a spec can cause.
pub fn text(imported: &Imported) -> Result<String> {
    let mut lines = Vec::new();
    let lost = imported.lost.iter();
    lines.extend(lost.map(|line| format!("# not translated: {line}")));
    lines.extend(imported.notes.iter().map(|line| format!("# {line}")));
    if !imported.values.is_empty() {
        lines.push("# Values of the chart that say the same of the cluster's names:".to_owned());
        let values = serde_json::json!({"dns": {"cluster": imported.values}});
        let text = serde_saphyr::to_string(&values)?;
        lines.extend(text.lines().map(|line| format!("#   {line}")));
    }
    for (name, spec) in &imported.zones {
        let written = Written {
            api_version: "weftnet.dev/v1alpha1",
            kind: "DnsZone",
            metadata: [("name", name.as_str())].into(),
            spec,
        };
        lines.push("---".to_owned());
        lines.push(serde_saphyr::to_string(&written)?.trim_end().to_owned());
    }
    Ok(lines.join("\n") + "\n")
}
