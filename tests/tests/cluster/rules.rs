//! The table of `crds/tests/rules.yaml` put to a real API server: the schema's part of it too.

use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams, ValidationDirective};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Case {
    name: String,
    object: Value,
    old: Option<Value>,
    refused: Option<String>,
}

#[tokio::test]
#[ignore = "needs a lab cluster: make test starts one"]
async fn the_api_server_accepts_and_refuses_what_the_table_says() {
    let client = super::admin().await;
    let cases: Vec<Case> =
        serde_saphyr::from_str(include_str!("../../../crds/tests/rules.yaml")).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let api = api(&client, &case.object);
        let outcome = match &case.old {
            None => apply(&api, &case.object, true).await,
            Some(old) => {
                apply(&api, old, false)
                    .await
                    .expect("the object before the update is accepted");
                replace(&api, &case.object).await
            }
        };
        let agrees = match (&case.refused, &outcome) {
            (None, Ok(_)) => true,
            (Some(part), Err(message)) => message.contains(part.as_str()),
            _ => false,
        };
        if !agrees {
            wrong.push(format!(
                "{}: wanted {:?}, got {outcome:?}",
                case.name, case.refused
            ));
        }
        if let Some(old) = &case.old {
            let _ = api
                .delete(
                    old["metadata"]["name"].as_str().unwrap(),
                    &Default::default(),
                )
                .await;
            gone(&api, old["metadata"]["name"].as_str().unwrap()).await;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.len() > 50, "only {} cases", cases.len());
}

fn api(client: &kube::Client, object: &Value) -> Api<DynamicObject> {
    let kind = object["kind"].as_str().unwrap();
    let gvk = GroupVersionKind::gvk("weftnet.dev", "v1alpha1", kind);
    let plural = match kind {
        "PodAddress" => "podaddresses".to_owned(),
        other => format!("{}s", other.to_lowercase()),
    };
    let resource = ApiResource::from_gvk_with_plural(&gvk, &plural);
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

async fn apply(api: &Api<DynamicObject>, object: &Value, dry_run: bool) -> Result<(), String> {
    let parameters = PatchParams {
        dry_run,
        force: true,
        field_manager: Some("rules".to_owned()),
        field_validation: Some(ValidationDirective::Strict),
    };
    let name = object["metadata"]["name"].as_str().unwrap();
    api.patch(name, &parameters, &Patch::Apply(object))
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}

/// An update. The operator may be changing the same object: a conflict is tried again.
async fn replace(api: &Api<DynamicObject>, object: &Value) -> Result<(), String> {
    let name = object["metadata"]["name"].as_str().unwrap();
    let parameters = PostParams {
        dry_run: true,
        field_manager: None,
    };
    loop {
        let mut next: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        next.metadata.resource_version = api.get(name).await.unwrap().metadata.resource_version;
        match api.replace(name, &parameters, &next).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            outcome => return outcome.map(drop).map_err(|error| error.to_string()),
        }
    }
}

/// A finalizer of the operator may hold a deleted object for a moment.
async fn gone(api: &Api<DynamicObject>, name: &str) {
    for _ in 0..300 {
        if api.get_opt(name).await.unwrap().is_none() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{name} is still there");
}
