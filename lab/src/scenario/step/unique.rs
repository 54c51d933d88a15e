//! `uniqueAddresses`: no two pods have an address in common. Asked twice: of the API for all pods of
//! the cluster, and of each of the scenario's pods' own interfaces.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::none_of;
use crate::scenario::stage::Stage;
use crate::scenario::{lab, pods, spot};

pub(super) async fn check(stage: &mut Stage<'_>) -> Result<()> {
    let mut found = pods::shared_addresses(stage.lab).await?;
    let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, facts) in &stage.pods {
        let is_host = stage
            .scenario
            .pods
            .get(name)
            .is_some_and(|spec| spec.host_network);
        if is_host {
            continue;
        }
        let own = interface_addresses(stage, name).await?;
        let missing: Vec<String> = facts
            .addresses
            .iter()
            .map(ToString::to_string)
            .filter(|address| !own.contains(address))
            .collect();
        found.extend(
            missing
                .iter()
                .map(|address| format!("pod {name} does not own {address}, its status says so")),
        );
        for address in own {
            owners.entry(address).or_default().push(name.clone());
        }
    }
    found.extend(pods::twice(owners));
    none_of(&found)
}

async fn interface_addresses(stage: &Stage<'_>, pod: &str) -> Result<Vec<String>> {
    let spot = spot::spot(stage.lab, &stage.pods, pod)?;
    let argv = ["ip", "-json", "address", "show", "scope", "global"].map(str::to_owned);
    let output = lab::output(&spot, &argv, Duration::from_secs(10)).await?;
    let links: Value =
        serde_json::from_slice(&output.stdout).context("ip -json printed no JSON")?;
    let all = links
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|link| link["addr_info"].as_array())
        .flatten();
    Ok(all
        .filter_map(|address| address["local"].as_str())
        .map(str::to_owned)
        .collect())
}
