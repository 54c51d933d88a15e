//! Addresses of Services: `service/NAME` is its cluster IPs, `balancer/NAME` its load balancer's
//! addresses; either with `@NAMESPACE` behind it for another namespace than the scenario's.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Service;
use kube::Api;

use super::model::Family;
use super::spot;
use super::stage::Stage;

/// The address of one family of whatever `text` names.
///
/// # Errors
/// When there is none (yet).
pub async fn address(stage: &Stage<'_>, text: &str, family: Family) -> Result<IpAddr> {
    let (is_balancer, name) = match (
        text.strip_prefix("service/"),
        text.strip_prefix("balancer/"),
    ) {
        (Some(name), _) => (false, name),
        (_, Some(name)) => (true, name),
        (None, None) => return spot::address(stage.lab, &stage.pods, text, family),
    };
    let (name, namespace) = name
        .split_once('@')
        .unwrap_or((name, stage.namespace.as_str()));
    let api: Api<Service> = Api::namespaced(stage.lab.client.clone(), namespace);
    let service = api
        .get(name)
        .await
        .with_context(|| format!("failed to get Service {name}"))?;
    let all = if is_balancer {
        balancer(&service)
    } else {
        let spec = service.spec.unwrap_or_default();
        spec.cluster_ips.unwrap_or_default()
    };
    let addresses = all.iter().filter_map(|text| text.parse::<IpAddr>().ok());
    match addresses
        .into_iter()
        .find(|address| family.matches(*address))
    {
        Some(address) => Ok(address),
        None => bail!("{text} has no {family} address; it has {all:?}"),
    }
}

fn balancer(service: &Service) -> Vec<String> {
    let status = service.status.as_ref();
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref());
    let ips = ingress
        .into_iter()
        .flatten()
        .filter_map(|ingress| ingress.ip.clone());
    ips.collect()
}
