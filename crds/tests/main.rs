//! The committed definitions are what the types say, and the rules accept and refuse what
//! `rules.yaml` says, evaluated offline. The same table is put to a real API server by the cluster tests.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use kube::core::cel::ValidationErrors;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    object: Value,
    old: Option<Value>,
    refused: Option<String>,
    #[serde(default)]
    server: bool,
}

#[test]
fn the_committed_definitions_are_what_the_types_say() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../helm/weftnet-crds/templates"
    );
    for (name, yaml) in weft_crds::definitions().unwrap() {
        let path = format!("{folder}/{name}.yaml");
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            committed, yaml,
            "{path} is out of date: run `make generate`"
        );
    }
}

#[test]
fn the_rules_accept_and_refuse_what_the_table_says() {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("rules.yaml")).unwrap();
    let mut wrong = Vec::new();
    let mut evaluated = 0;
    for case in cases.iter().filter(|case| !case.server) {
        evaluated += 1;
        let outcome = evaluate(&case.object, case.old.as_ref());
        let messages: Vec<String> = match &outcome {
            Ok(()) => Vec::new(),
            Err(errors) => errors
                .as_slice()
                .iter()
                .map(|error| error.message.clone())
                .collect(),
        };
        let agrees = match &case.refused {
            None => messages.is_empty(),
            Some(part) => messages
                .iter()
                .any(|message| message.contains(part.as_str())),
        };
        if !agrees {
            wrong.push(format!(
                "{}: wanted {:?}, got {messages:?}",
                case.name, case.refused
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(evaluated > 40, "only {evaluated} cases were evaluated");
}

#[test]
fn the_table_holds_for_each_rule_a_case_that_breaks_it() {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("rules.yaml")).unwrap();
    let refused: Vec<&str> = cases
        .iter()
        .filter_map(|case| case.refused.as_deref())
        .collect();
    for (name, yaml) in weft_crds::definitions().unwrap() {
        let definition: Value = serde_saphyr::from_str(&yaml).unwrap();
        for message in messages_of(&definition) {
            assert!(
                refused.iter().any(|part| message.contains(part)),
                "{name}: no case is refused with {message:?}"
            );
        }
    }
}

fn evaluate(object: &Value, old: Option<&Value>) -> Result<(), ValidationErrors> {
    let kind = object["kind"].as_str().unwrap();
    let yaml = weft_crds::definitions()
        .unwrap()
        .into_iter()
        .map(|(_, yaml)| serde_saphyr::from_str::<Value>(&yaml).unwrap())
        .find(|definition| definition["spec"]["names"]["kind"] == kind)
        .unwrap();
    let schema = &yaml["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    kube::core::cel::Validator::new().validate(schema, object, old)
}

fn messages_of(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, field)| match field {
                Value::Array(rules) if name == "x-kubernetes-validations" => rules
                    .iter()
                    .map(|rule| rule["message"].as_str().unwrap().to_owned())
                    .collect(),
                other => messages_of(other),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(messages_of).collect(),
        _ => Vec::new(),
    }
}
