//! The status of this node's NodeNetwork: what peers route by. Written when it changes.

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;
use weft_crds::{NodeNetwork, NodeNetworkStatus};

use super::{Attempts, FIELD_MANAGER, Writer, request};
use crate::watch::Identity;

/// Writes for ever.
pub async fn run(
    writer: Writer,
    mut wanted: watch::Receiver<Option<NodeNetworkStatus>>,
    mut identity: watch::Receiver<Identity>,
) {
    let api: Api<NodeNetwork> = Api::all(writer.client.clone());
    let mut attempts = Attempts::new("NodeNetwork");
    let mut written = None;
    loop {
        let due = due(
            &wanted.borrow_and_update(),
            &identity.borrow_and_update(),
            written.as_ref(),
        );
        let mut pause = None;
        if let Some((uid, status)) = due {
            let patch = Patch::Apply(body(&writer.node, &status));
            let parameters = PatchParams::apply(FIELD_MANAGER).force();
            let write = api.patch_status(&writer.node, &parameters, &patch);
            match request(&writer.metrics, "NodeNetwork", write).await {
                Ok(_) => {
                    attempts.succeeded();
                    written = Some((uid, status));
                }
                Err(error) => pause = Some(attempts.failed(&error)),
            }
        }
        let retry = async {
            match pause {
                Some(pause) => sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Ok(()) = wanted.changed() => {}
            Ok(()) = identity.changed() => {}
            () = retry => {}
            else => return,
        }
    }
}

/// What to write: a wanted status that this very NodeNetwork does not have from us yet.
fn due(
    wanted: &Option<NodeNetworkStatus>,
    identity: &Identity,
    written: Option<&(String, NodeNetworkStatus)>,
) -> Option<(String, NodeNetworkStatus)> {
    let (Some(status), Some(uid)) = (wanted, &identity.network) else {
        return None;
    };
    match written {
        Some((to, before)) if to == uid && before == status => None,
        _ => Some((uid.clone(), status.clone())),
    }
}

fn body(node: &str, status: &NodeNetworkStatus) -> Value {
    json!({
        "apiVersion": "weftnet.dev/v1alpha1",
        "kind": "NodeNetwork",
        "metadata": {"name": node},
        "status": status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(uid: Option<&str>) -> Identity {
        Identity {
            stays: true,
            network: uid.map(str::to_owned),
            ..Identity::default()
        }
    }

    #[test]
    fn a_status_is_written_once_to_each_object_that_bears_the_name() {
        let status = NodeNetworkStatus {
            addresses: vec!["192.0.2.1".to_owned()],
            ..Default::default()
        };
        let wanted = Some(status.clone());
        assert_eq!(due(&None, &identity(Some("u1")), None), None);
        assert_eq!(due(&wanted, &identity(None), None), None);
        let first = due(&wanted, &identity(Some("u1")), None);
        assert_eq!(first, Some(("u1".to_owned(), status)));
        assert_eq!(due(&wanted, &identity(Some("u1")), first.as_ref()), None);
        assert!(due(&wanted, &identity(Some("u2")), first.as_ref()).is_some());
        let other = Some(NodeNetworkStatus::default());
        assert!(due(&other, &identity(Some("u1")), first.as_ref()).is_some());
    }

    #[test]
    fn the_object_is_named_after_the_node_and_nothing_but_status_is_applied() {
        let body = body("a", &NodeNetworkStatus::default());
        assert_eq!(body["metadata"], json!({"name": "a"}));
        assert!(body.get("spec").is_none());
    }
}
