//! CHECK, GC and STATUS.

use std::time::Instant;

use weft_cni::error::code;
use weft_cni::wire::{Response, Valid};
use weft_core::diff::{Change, diff};
use weft_core::plan::LinkName;
use weft_core::view::AttachmentKey;
use weft_kernel::net;

use super::attach::{added, wiring};
use super::fault::Killed;
use super::report::Trouble;
use super::requests::{Check, failed, key};
use super::round::Engine;

/// Attachments that one GC may release.
const GC_AT_ONCE: usize = 32;

impl Engine {
    /// Compares an attachment with the kernel and names what differs.
    pub(super) fn check(&mut self, check: Check) {
        let Check {
            attachment,
            pod_netlink,
            reply,
        } = check;
        let response = self.compare(&key(&attachment), pod_netlink);
        let _ = reply.send(response);
    }

    fn compare(
        &mut self,
        key: &AttachmentKey,
        pod_netlink: Option<std::os::fd::OwnedFd>,
    ) -> Response {
        let (Some(addresses), Some(kernel), Some(compiled)) =
            (&self.addresses, &mut self.kernel, &self.compiled)
        else {
            return failed(
                code::TRY_AGAIN,
                "the agent is not in step with the cluster yet",
                "try again later",
            );
        };
        let Some(assignment) = addresses.state().assignments.get(key) else {
            let details = format!(
                "the record has no {} of container {}",
                key.ifname, key.container_id
            );
            return failed(code::NO_CONTAINER, "unknown attachment", details);
        };
        let Some(pod_netlink) = pod_netlink else {
            return failed(
                code::DECODE,
                "request is not whole",
                "it came without a socket of the pod's namespace",
            );
        };
        let inside = kernel
            .verify(pod_netlink, &wiring(assignment))
            .map_err(|error| error.to_string());
        let outside = net::observe(&mut kernel.rtnl).map_err(|error| error.to_string());
        match (inside, outside) {
            (Ok(mut differences), Ok(observed)) => {
                let pods: Vec<_> = assignment
                    .addresses
                    .iter()
                    .map(|assigned| assigned.address)
                    .collect();
                let changes = diff(&observed, &compiled.plan().net).0;
                let concerned = changes
                    .iter()
                    .filter(|change| concerns(change, &assignment.host_link, &pods));
                differences.extend(
                    concerned.map(|change| format!("on the node, not as planned: {change}")),
                );
                if differences.is_empty() {
                    Response::Added(added(assignment))
                } else {
                    failed(
                        code::IO,
                        "the attachment is not as it should be",
                        differences.join("; "),
                    )
                }
            }
            (Err(error), _) | (_, Err(error)) => {
                failed(code::IO, "the kernel could not be asked", error)
            }
        }
    }

    /// Releases what a present list excludes and excluded at an earlier GC, a few at a time.
    pub(super) fn gc(
        &mut self,
        valid: Option<Vec<Valid>>,
        now: Instant,
    ) -> Result<Response, Killed> {
        let Some(valid) = valid else {
            return Ok(Response::Done);
        };
        let Some(addresses) = &self.addresses else {
            return Ok(failed(
                code::TRY_AGAIN,
                "the record is not open yet",
                "try again later",
            ));
        };
        let is_valid = |key: &AttachmentKey| {
            valid
                .iter()
                .any(|entry| entry.container_id == key.container_id && entry.ifname == key.ifname)
        };
        let excluded: Vec<AttachmentKey> = addresses
            .state()
            .assignments
            .keys()
            .filter(|key| !is_valid(key))
            .cloned()
            .collect();
        self.gc_marks.retain(|key, _| excluded.contains(key));
        let mut twice = Vec::new();
        for key in excluded {
            let marked = *self.gc_marks.entry(key.clone()).or_insert(now);
            if now.duration_since(marked) >= self.config.grace
                && marked != now
                && twice.len() < GC_AT_ONCE
            {
                twice.push(key);
            }
        }
        self.gc_marks.retain(|key, _| !twice.contains(key));
        Ok(match self.remove(&twice)? {
            Ok(()) => Response::Done,
            Err(sentence) => failed(code::TRY_AGAIN, "releases could not be recorded", sentence),
        })
    }

    /// Success while a pod could be served, now or later.
    pub(super) fn status(&self) -> Response {
        if self.ready || self.was_ready {
            return Response::Done;
        }
        let troubles = [Trouble::Record, Trouble::Kernel]
            .into_iter()
            .find_map(|trouble| self.troubles.get(trouble));
        let details = troubles.unwrap_or("the agent has not heard from the API server yet");
        failed(
            code::NOT_AVAILABLE,
            "this node has not been ready since its agent started",
            details,
        )
    }
}

/// Whether a change is about a pod.
fn concerns(change: &Change, link: &LinkName, addresses: &[std::net::IpAddr]) -> bool {
    let of_pod = |net: &ipnet::IpNet| {
        addresses.contains(&net.addr()) && net.prefix_len() == net.max_prefix_len()
    };
    match change {
        Change::SetPodLink(name, _)
        | Change::ReplaceNeighbour(name, ..)
        | Change::RemoveNeighbour(name, _) => name == link,
        Change::AddAddress(address) | Change::RemoveAddress(address) => address.link == *link,
        Change::ReplaceRoute(to, _) | Change::RemoveRoute(to, _) => of_pod(to),
        Change::DeleteVxlan(_)
        | Change::CreateVxlan(..)
        | Change::SetVxlan(..)
        | Change::ReplaceForwarding(..)
        | Change::RemoveForwarding(..) => false,
    }
}
