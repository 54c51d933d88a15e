//! What others did to our objects: noticed, put into the model of the kernel, and so undone by the
//! next commit. An Event names the object and, where the kernel tells, who did it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weft_core::compile::Incremental;
use weft_core::names;
use weft_core::plan::{NetState, NodePlan, Route};
use weft_kernel::monitor::{By, Event, What};
use weft_kernel::sysctl;

use super::fault::Killed;
use super::report::Trouble;
use super::round::Engine;

/// How long a namespace takes to go, with all that is on its links.
const DOUBT: Duration = Duration::from_millis(800);
/// Sentences in one Event.
const NAMED: usize = 4;

impl Engine {
    /// Reads the kernel's notifications, and repairs what concerns the plan.
    pub(super) fn notice_repairs(&mut self) {
        let Some(kernel) = &mut self.kernel else {
            return;
        };
        let events = match kernel.monitor.read_events() {
            Ok(events) => events,
            Err(error) => {
                kernel.net_known = false;
                self.troubles.set(
                    Trouble::Kernel,
                    Some(format!("notifications cannot be read: {error}")),
                );
                return;
            }
        };
        let host_changed = kernel.monitor.take_host_changed();
        let Some(compiled) = &mut self.compiled else {
            return;
        };
        let events = last_of_each(events);
        let mut gone = Vec::new();
        for event in &events {
            if let What::PodLink { link, now: None } = &event.what {
                gone.push(link.clone());
            }
        }
        for link in &gone {
            kernel.forget_link(link);
            self.plan_is_new |= without_link(compiled, link);
        }
        let mut sentences = Vec::new();
        // The kernel does not tell of IPv4 routes that it drops with a link's last address, or when it goes down.
        if events.iter().any(|event| drops_routes(&event.what)) {
            kernel.net_known = false;
            self.plan_is_new = true;
        }
        for Event { what, by } in events {
            if on_link(&what).is_some_and(|link| gone.iter().any(|gone| gone == link)) {
                continue;
            }
            if matches!(what, What::Table { .. } | What::Overflow) {
                kernel.table_known = false;
                kernel.net_known &= !matches!(what, What::Overflow);
                self.plan_is_new = true;
                if let What::Table { first, .. } = what {
                    sentences.push(format!("{} table inet {}", said(&first, &by), names::TABLE));
                }
            } else {
                // What the kernel does by itself on a pod's link may be the pod's namespace going: then
                // the link is gone in a moment, and nobody did anything.
                let doubtful = on_link(&what)
                    .or_else(|| leads_to(&compiled.plan().net, &what))
                    .filter(|_| by.port.is_none())
                    .map(str::to_owned);
                let Some(sentence) = learn(&mut kernel.have.net, compiled.plan(), what, &by) else {
                    continue;
                };
                self.plan_is_new = true;
                match doubtful {
                    Some(link) => self.doubts.push((Instant::now(), link, sentence)),
                    None => sentences.push(sentence),
                }
            }
        }
        self.tell_repairs(sentences);
        if host_changed {
            self.look_at_host_soon();
        }
    }

    /// Sysctls tell nothing when they change: the host's own few are read.
    pub(super) fn notice_sysctls(&mut self) {
        let (Some(kernel), Some(_)) = (&mut self.kernel, &self.compiled) else {
            return;
        };
        let mut changed = Vec::new();
        for (path, value) in &kernel.have.sysctls {
            let of_pod =
                path.split('/').nth(2).and_then(names::recognise) == Some(names::OurLink::Pod);
            if of_pod {
                continue;
            }
            if let Ok(present) = sysctl::read(&kernel.sysctl_dir, path)
                && present != *value
            {
                changed.push((
                    path.clone(),
                    format!("sysctl {path} was set to {present} instead of {value}"),
                ));
            }
        }
        let mut sentences = Vec::new();
        for (path, sentence) in changed {
            kernel.have.sysctls.remove(&path);
            sentences.push(sentence);
        }
        self.plan_is_new |= !sentences.is_empty();
        self.tell_repairs(sentences);
    }

    /// Tells what was doubtful, where the pod's link is still there after a moment.
    pub(super) fn settle_doubts(&mut self, now: Instant) {
        let (old, young) = std::mem::take(&mut self.doubts)
            .into_iter()
            .partition(|(since, ..)| now.duration_since(*since) >= DOUBT);
        self.doubts = young;
        let old: Vec<(Instant, String, String)> = old;
        let Some(kernel) = self.kernel.as_mut().filter(|_| !old.is_empty()) else {
            return;
        };
        let links = old.iter().map(|(_, link, _)| link.clone());
        let there = weft_kernel::net::indices(&mut kernel.rtnl, links).unwrap_or_default();
        let told = old
            .into_iter()
            .filter(|(_, link, _)| there.contains_key(link));
        self.tell_repairs(told.map(|(_, _, sentence)| sentence).collect());
    }

    /// Takes addresses back whose sandbox is proven to be gone.
    pub(super) fn reclaim(&mut self, now: Instant) -> Result<(), Killed> {
        let (Some(addresses), Some(kernel)) = (&self.addresses, &mut self.kernel) else {
            return Ok(());
        };
        let suspects = self
            .absences
            .suspects(addresses.state().assignments.values());
        let links = suspects
            .iter()
            .map(|assignment| assignment.host_link.clone());
        let Ok(indices) = weft_kernel::net::indices(&mut kernel.rtnl, links) else {
            return Ok(());
        };
        let gone = suspects
            .iter()
            .filter(|assignment| !indices.contains_key(&assignment.host_link));
        let gone = gone.map(|assignment| assignment.key()).collect();
        let mut proven = self.absences.note(gone, now);
        // The last look, just before the release.
        proven.retain(|key| {
            let Some(assignment) = addresses.state().assignments.get(key) else {
                return false;
            };
            self.absences.path_is_gone(&assignment.netns)
                && weft_kernel::net::exists(&mut kernel.rtnl, &assignment.host_link)
                    .is_ok_and(|there| !there)
        });
        if proven.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = proven
            .iter()
            .map(|key| key.container_id.clone())
            .take(NAMED)
            .collect();
        let count = proven.len();
        if self.remove(&proven)?.is_ok() {
            self.counters.reclaimed += count as u64;
            self.retry_waiting = true;
            let message = format!(
                "{count} sandboxes were gone without a DEL, their addresses were taken back: {}",
                names.join(", ")
            );
            self.event(false, "AddressesReclaimed", message);
        }
        Ok(())
    }

    fn tell_repairs(&mut self, sentences: Vec<String>) {
        if sentences.is_empty() {
            return;
        }
        self.counters.repairs += sentences.len() as u64;
        let more = sentences.len().saturating_sub(NAMED);
        let mut message = sentences
            .into_iter()
            .take(NAMED)
            .collect::<Vec<_>>()
            .join("; ");
        if more > 0 {
            message = format!("{message}; and {more} more");
        }
        self.event(true, "ForeignChange", format!("{message}; it is put right"));
    }
}

/// Of several notifications about one object only the last says what is there now. Who did it may be
/// in an earlier one: the kernel ends by itself what somebody began.
fn last_of_each(events: Vec<Event>) -> Vec<Event> {
    let mut order = Vec::new();
    let mut last: BTreeMap<String, Event> = BTreeMap::new();
    for Event { what, by } in events {
        let object = object(&what);
        let known = last.remove(&object).map(|event| event.by);
        let by = known.filter(|known| known.port.is_some()).unwrap_or(by);
        order.retain(|before| *before != object);
        order.push(object.clone());
        last.insert(object, Event { what, by });
    }
    order
        .iter()
        .filter_map(|object| last.remove(object))
        .collect()
}

/// Puts what is there into the model; a sentence if it is not what was planned.
fn learn(have: &mut NetState, plan: &NodePlan, what: What, by: &By) -> Option<String> {
    let name = object(&what);
    let planned = &plan.net;
    let gone = match what {
        What::Vxlan { link, now } => {
            let (gone, as_planned) = (now.is_none(), planned.vxlans.get(&link) == now.as_ref());
            match now {
                Some(now) => drop(have.vxlans.insert(link, now)),
                None => {
                    weft_core::diff::Change::DeleteVxlan(link).apply(have);
                }
            }
            (!as_planned).then_some(gone)
        }
        What::PodLink { link, now } => {
            let wanted = planned.pod_links.get(&link)?;
            let differs = now.as_ref() != Some(wanted);
            have.pod_links.extend(now.map(|now| (link, now)));
            differs.then_some(false)
        }
        What::Address { address, gone } => {
            let wanted = planned.addresses.contains(&address);
            if gone {
                have.addresses.remove(&address);
            } else {
                have.addresses.insert(address);
            }
            (wanted == gone).then_some(gone)
        }
        What::Neighbour { link, address, now } => {
            let key = (link, address);
            let differs = planned.neighbours.get(&key) != now.as_ref();
            let gone = now.is_none();
            match now {
                Some(now) => drop(have.neighbours.insert(key, now)),
                None => drop(have.neighbours.remove(&key)),
            }
            differs.then_some(gone)
        }
        What::Forwarding { link, mac, now } => {
            let key = (link, mac);
            let differs = planned.forwarding.get(&key) != now.as_ref();
            let gone = now.is_none();
            match now {
                Some(now) => drop(have.forwarding.insert(key, now)),
                None => drop(have.forwarding.remove(&key)),
            }
            differs.then_some(gone)
        }
        What::Route { to, now } => {
            let differs = planned.routes.get(&to) != now.as_ref();
            let gone = now.is_none();
            match now {
                Some(now) => drop(have.routes.insert(to, now)),
                None => drop(have.routes.remove(&to)),
            }
            differs.then_some(gone)
        }
        What::Table { .. } | What::Overflow => None,
    }?;
    Some(said(
        &format!("{name} was {}", if gone { "deleted" } else { "changed" }),
        by,
    ))
}

/// The object of a notification, in words.
fn object(what: &What) -> String {
    match what {
        What::Vxlan { link, .. } | What::PodLink { link, .. } => format!("link {link}"),
        What::Address { address, .. } => {
            format!("address {} of link {}", address.address, address.link)
        }
        What::Neighbour { link, address, .. } => format!("neighbour {address} of link {link}"),
        What::Forwarding { link, mac, .. } => format!("forwarding entry {mac} of link {link}"),
        What::Route { to, .. } => format!("route {to}"),
        What::Table { first, .. } => format!("table: {first}"),
        What::Overflow => "everything".to_owned(),
    }
}

/// The pod's link that an object is on.
fn on_link(what: &What) -> Option<&str> {
    let link = match what {
        What::PodLink { link, .. } | What::Neighbour { link, .. } => Some(link),
        What::Address { address, .. } => Some(&address.link),
        What::Route {
            now: Some(weft_core::plan::Route::Unicast { link, .. }),
            ..
        } => Some(link),
        _ => None,
    }?;
    (names::recognise(link) == Some(names::OurLink::Pod)).then_some(link)
}

/// The pod's link that a route led to which is gone: the notification itself does not say.
fn leads_to<'a>(planned: &'a NetState, what: &What) -> Option<&'a str> {
    let What::Route { to, now: None } = what else {
        return None;
    };
    match planned.routes.get(to)? {
        Route::Unicast { link, .. } => {
            (names::recognise(link) == Some(names::OurLink::Pod)).then_some(link)
        }
        Route::Unreachable | Route::Local { .. } => None,
    }
}

/// Whether routes may have gone with this.
fn drops_routes(what: &What) -> bool {
    match what {
        What::Address { gone, .. } => *gone,
        What::PodLink { now, .. } => now.as_ref().is_some_and(|now| now.mtu == 0),
        What::Vxlan { now, .. } => now.as_ref().is_none_or(|now| now.mtu == 0),
        _ => false,
    }
}

fn said(what: &str, by: &By) -> String {
    let By {
        port,
        process,
        name,
    } = by;
    match (name, process, port) {
        (Some(name), Some(process), _) => format!("{what} by {name} (process {process})"),
        (None, None, Some(port)) => format!("{what} (netlink port {port})"),
        _ => what.to_owned(),
    }
}

/// A pod whose link is gone has nothing left that could be planned; its address stays its own until
/// DEL or the proof of absence.
fn without_link(compiled: &mut Incremental, link: &str) -> bool {
    let found = compiled
        .view()
        .pods
        .iter()
        .find(|(_, pod)| pod.host_link == link && pod.host_index.is_some());
    let Some((key, pod)) = found.map(|(key, pod)| (key.clone(), pod.clone())) else {
        return false;
    };
    compiled.set_pod(
        &key,
        Some(weft_core::view::PodView {
            host_index: None,
            ..pod
        }),
    );
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(link: &str) -> Route {
        Route::Unicast {
            link: link.to_owned(),
            via: None,
            onlink: false,
            source: None,
            mtu: None,
        }
    }

    #[test]
    fn a_route_that_is_gone_is_doubtful_where_it_led_to_a_pod() {
        let mut planned = NetState::default();
        let rows = [
            (
                "10.8.0.1/32",
                route("weft0123456789a"),
                Some("weft0123456789a"),
            ),
            ("10.9.0.0/26", route("weftx-default"), None),
            ("10.8.0.0/26", Route::Unreachable, None),
        ];
        for (to, route, _) in &rows {
            planned.routes.insert(to.parse().unwrap(), route.clone());
        }
        for (to, route, link) in rows {
            let to = to.parse().unwrap();
            let gone = What::Route { to, now: None };
            assert_eq!(leads_to(&planned, &gone), link, "{to}");
            let there = What::Route {
                to,
                now: Some(route),
            };
            assert_eq!(leads_to(&planned, &there), None, "{to}");
        }
    }
}
