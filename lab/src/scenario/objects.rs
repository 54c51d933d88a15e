//! Objects of any kind: applied, deleted, refused, compared with what a scenario expects.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use serde_json::Value;

use super::lab::Lab;
use super::model::ObjectRef;
use super::wait;

/// The field manager of what scenarios apply.
const MANAGER: &str = "weft-lab";

/// Applies an object by server-side apply; a namespaced one without a namespace goes into `namespace`.
///
/// # Errors
/// What the API server says.
pub async fn apply(lab: &Lab, namespace: &str, object: &Value) -> Result<ObjectRef> {
    let reference = reference(object)?;
    let api = api(lab, namespace, &reference).await?;
    let parameters = PatchParams::apply(MANAGER).force();
    let patched = api
        .patch(&reference.name, &parameters, &Patch::Apply(object))
        .await;
    patched.with_context(|| format!("failed to apply {} {}", reference.kind, reference.name))?;
    Ok(reference)
}

/// Changes an object by a merge patch.
///
/// # Errors
/// What the API server says.
pub async fn patch(lab: &Lab, namespace: &str, reference: &ObjectRef, patch: &Value) -> Result<()> {
    let api = api(lab, namespace, reference).await?;
    let patched = api
        .patch(
            &reference.name,
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await;
    patched.with_context(|| format!("failed to patch {} {}", reference.kind, reference.name))?;
    Ok(())
}

/// The object must be refused with a message that contains `message`. It is only tried (dry run).
///
/// # Errors
/// When it would be accepted, or is refused with other words.
pub async fn refused(lab: &Lab, namespace: &str, object: &Value, message: &str) -> Result<()> {
    let reference = reference(object)?;
    let api = api(lab, namespace, &reference).await?;
    let parameters = PatchParams::apply(MANAGER).force().dry_run();
    match api
        .patch(&reference.name, &parameters, &Patch::Apply(object))
        .await
    {
        Ok(_) => bail!(
            "{} {} was accepted; {message:?} was expected",
            reference.kind,
            reference.name
        ),
        Err(error) => {
            let words = error.to_string();
            if words.contains(message) {
                return Ok(());
            }
            bail!("it was refused, but {message:?} is not in: {words}")
        }
    }
}

/// Deletes an object; `wait` waits until it is gone.
///
/// # Errors
/// What the API server says, or when it stays.
pub async fn delete(lab: &Lab, namespace: &str, reference: &ObjectRef, wait: bool) -> Result<()> {
    let api = api(lab, namespace, reference).await?;
    match api.delete(&reference.name, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| {
                format!("failed to delete {} {}", reference.kind, reference.name)
            });
        }
    }
    if !wait {
        return Ok(());
    }
    wait::until(Duration::from_secs(60), async || {
        match api.get_opt(&reference.name).await? {
            None => Ok(()),
            Some(_) => bail!("{} {} is still there", reference.kind, reference.name),
        }
    })
    .await
}

/// The object as it is now.
///
/// # Errors
/// When the API server does not answer.
pub async fn get(lab: &Lab, namespace: &str, reference: &ObjectRef) -> Result<Option<Value>> {
    let found = api(lab, namespace, reference)
        .await?
        .get_opt(&reference.name)
        .await?;
    found
        .map(|object| serde_json::to_value(object).map_err(Into::into))
        .transpose()
}

async fn api(lab: &Lab, namespace: &str, reference: &ObjectRef) -> Result<Api<DynamicObject>> {
    let (group, version) = reference
        .api_version
        .split_once('/')
        .unwrap_or(("", &reference.api_version));
    let kind = GroupVersionKind::gvk(group, version, &reference.kind);
    let (resource, capabilities) = pinned_kind(&lab.client, &kind).await.with_context(|| {
        format!(
            "the cluster has no {} {}",
            reference.api_version, reference.kind
        )
    })?;
    let namespace = reference.namespace.as_deref().unwrap_or(namespace);
    Ok(match capabilities.scope {
        Scope::Cluster => Api::all_with(lab.client.clone(), &resource),
        Scope::Namespaced => Api::namespaced_with(lab.client.clone(), namespace, &resource),
    })
}

fn reference(object: &Value) -> Result<ObjectRef> {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let need = |pointer: &str| {
        text(pointer).ok_or_else(|| anyhow!("an object lacks {}", pointer.replace('/', ".")))
    };
    Ok(ObjectRef {
        api_version: need("/apiVersion")?,
        kind: need("/kind")?,
        name: need("/metadata/name")?,
        namespace: text("/metadata/namespace"),
    })
}

/// Where `wanted` is not a part of `found`; `None` when it is.
pub fn difference(wanted: &Value, found: &Value, path: &str) -> Option<String> {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            found.get(key).map_or_else(
                || (!value.is_null()).then(|| format!("{path} is not there")),
                |found| difference(value, found, &path),
            )
        }),
        (Value::Array(wanted), Value::Array(found)) => wanted.iter().find_map(|value| {
            let best: Vec<String> = found
                .iter()
                .filter_map(|item| difference(value, item, path))
                .collect();
            (best.len() == found.len()).then(|| {
                format!(
                    "{path} has no element like {value}; it has {}",
                    short(&Value::Array(found.clone()))
                )
            })
        }),
        (Value::String(wanted), found) if wanted.starts_with('~') => {
            let text = found
                .as_str()
                .map_or_else(|| found.to_string(), str::to_owned);
            (!text.contains(&wanted[1..]))
                .then(|| format!("{path} is {text:?}, without {:?}", &wanted[1..]))
        }
        (wanted, found) => {
            (wanted != found).then(|| format!("{path} is {}, not {wanted}", short(found)))
        }
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= 400 {
        text
    } else {
        text.chars().take(400).chain("…".chars()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_part_is_found_and_a_difference_is_named() {
        let found = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "message": "all is well"}], "n": 3}});
        let differs = |wanted: Value| difference(&wanted, &found, "");
        assert_eq!(differs(json!({"status": {"n": 3}})), None);
        assert_eq!(
            differs(json!({"status": {"conditions": [{"type": "Ready", "message": "~well"}]}})),
            None
        );
        assert_eq!(
            differs(json!({"status": {"n": 4}})),
            Some(".status.n is 3, not 4".to_owned())
        );
        assert_eq!(
            differs(json!({"status": {"m": 4}})),
            Some(".status.m is not there".to_owned())
        );
        assert!(
            differs(json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}))
                .is_some()
        );
        assert!(
            differs(json!({"status": {"conditions": [{"type": "Ready", "message": "~ill"}]}}))
                .is_some()
        );
    }

    #[test]
    fn an_empty_list_has_no_element_like_the_wanted() {
        assert!(difference(&json!([{"a": 1}]), &json!([]), "x").is_some());
        assert_eq!(difference(&json!([]), &json!([]), "x"), None);
    }
}
