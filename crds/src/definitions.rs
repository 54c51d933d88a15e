//! The CustomResourceDefinitions as YAML, as they are committed in the chart `weftnet-crds`.

use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::{DnsZone, IPBlock, IPPool, NodeNetwork, NodeReport, Overlay, PodAddress};

/// Name (`ippools.weftnet.dev`) and YAML of each definition, in a fixed order.
///
/// # Errors
/// A sentence, when a definition cannot be written as YAML.
pub fn definitions() -> Result<Vec<(String, String)>, String> {
    [
        to_yaml(&IPPool::crd()),
        to_yaml(&Overlay::crd()),
        to_yaml(&IPBlock::crd()),
        to_yaml(&NodeNetwork::crd()),
        to_yaml(&NodeReport::crd()),
        to_yaml(&PodAddress::crd()),
        to_yaml(&DnsZone::crd()),
    ]
    .into_iter()
    .collect()
}

fn to_yaml(
    crd: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
) -> Result<(String, String), String> {
    let name = crd.metadata.name.clone().unwrap_or_default();
    let mut value = serde_json::to_value(crd).map_err(|error| format!("{name}: {error}"))?;
    keyed_conditions(&mut value);
    let yaml = serde_saphyr::to_string(&value).map_err(|error| format!("{name}: {error}"))?;
    Ok((name, yaml))
}

/// Conditions are a map by type (Kubernetes API conventions), so that two writers never erase each other's.
fn keyed_conditions(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::Object(conditions)) = fields.get_mut("conditions")
                && conditions.get("type") == Some(&json!("array"))
            {
                conditions.insert("x-kubernetes-list-type".to_owned(), json!("map"));
                conditions.insert("x-kubernetes-list-map-keys".to_owned(), json!(["type"]));
            }
            fields.values_mut().for_each(keyed_conditions);
        }
        Value::Array(items) => items.iter_mut().for_each(keyed_conditions),
        _ => {}
    }
}
