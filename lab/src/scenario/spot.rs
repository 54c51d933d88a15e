//! Turns `client`, `twins/b`, `node/2` and `outside` into where programs run, and into addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};

use super::lab::{Lab, Spot};
use super::model::Family;
use super::pods::PodFacts;
use super::template::Facts;

/// The pods of a scenario, by name.
pub type Pods = BTreeMap<String, PodFacts>;

/// Where a program for `text` runs.
///
/// # Errors
/// When nothing has that name.
pub fn spot<'a>(lab: &'a Lab, pods: &Pods, text: &str) -> Result<Spot<'a>> {
    if let Some(number) = text.strip_prefix("node/") {
        return Ok(Spot::Place(&lab.node(number_of(number)?)?.place));
    }
    match text {
        "outside" => Ok(lab.outside()),
        "switch" => Ok(Spot::Place(lab.switch())),
        "machine" => Ok(Spot::Machine),
        _ => {
            let (pod, container) = text
                .split_once('/')
                .map_or((text, None), |(pod, name)| (pod, Some(name)));
            lab.container(pod_of(pods, pod)?, container)
        }
    }
}

/// Where a program that needs the network alone runs: the machine's own programs are at hand there.
///
/// # Errors
/// When nothing has that name.
pub fn network<'a>(lab: &'a Lab, pods: &Pods, text: &str) -> Result<Spot<'a>> {
    Ok(match spot(lab, pods, text)? {
        Spot::Place(place) => Spot::Network(place, place.pid()),
        other => other,
    })
}

/// The addresses of `text`; `localhost` and plain addresses are understood too.
///
/// # Errors
/// When nothing has that name.
pub fn addresses(lab: &Lab, pods: &Pods, text: &str) -> Result<Vec<IpAddr>> {
    if let Some(number) = text.strip_prefix("node/") {
        return Ok(lab.node(number_of(number)?)?.record.addresses.all());
    }
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    match text {
        "outside" => Ok(lab.outside_addresses().all()),
        "localhost" => Ok(vec![
            IpAddr::from([127, 0, 0, 1]),
            IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        ]),
        _ => {
            let pod = text.split('/').next().unwrap_or_default();
            Ok(pod_of(pods, pod)?.addresses.clone())
        }
    }
}

/// The address of one family.
///
/// # Errors
/// When there is none.
pub fn address(lab: &Lab, pods: &Pods, text: &str, family: Family) -> Result<IpAddr> {
    let all = addresses(lab, pods, text)?;
    let found = all.iter().copied().find(|address| family.matches(*address));
    found.with_context(|| format!("{text} has no {family} address; it has {all:?}"))
}

/// What `${…}` may name.
pub fn facts(lab: &Lab, pods: &Pods, namespace: &str) -> Facts {
    let mut facts = Facts::from([("namespace".to_owned(), namespace.to_owned())]);
    let mut enter = |prefix: String, addresses: &[IpAddr]| {
        for address in addresses {
            let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
            facts.insert(format!("{prefix}.{family}"), address.to_string());
        }
    };
    enter("outside".to_owned(), &lab.outside_addresses().all());
    for (index, node) in lab.nodes.iter().enumerate() {
        enter(format!("node.{}", index + 1), &node.record.addresses.all());
    }
    for (name, pod) in pods {
        enter(format!("pod.{name}"), &pod.addresses);
    }
    for (index, node) in lab.nodes.iter().enumerate() {
        facts.insert(format!("node.{}.name", index + 1), node.record.name.clone());
    }
    for (name, pod) in pods {
        facts.insert(format!("pod.{name}.uid"), pod.uid.clone());
        facts.insert(format!("pod.{name}.node"), pod.node.clone());
    }
    facts
}

fn pod_of<'a>(pods: &'a Pods, name: &str) -> Result<&'a PodFacts> {
    pods.get(name).with_context(|| {
        let known: Vec<&str> = pods.keys().map(String::as_str).collect();
        format!(
            "{name:?} is no pod that runs here, no node/N and not outside; pods: {}",
            known.join(", ")
        )
    })
}

fn number_of(text: &str) -> Result<usize> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => bail!("node/{text}: write the node's number, from 1, such as node/2"),
    }
}
