//! Cluster DNS on this node: whether its server answers decides whether the plan leads questions to it.
//!
//! Until that is known, after a start, what the predecessor left in the kernel stays.

use std::collections::BTreeSet;
use std::net::IpAddr;

use weft_core::compile;
use weft_core::view::DnsView;

use super::Output;
use super::round::Engine;

/// The DNS server of the node, as far as it is known.
#[derive(Debug)]
pub(super) struct NodeDns {
    addresses: BTreeSet<IpAddr>,
    /// Not known before the server, or somebody who has waited for it, has spoken.
    serving: Option<bool>,
}

impl NodeDns {
    /// None where no address is served on the node.
    pub(super) fn new(addresses: &[IpAddr]) -> Option<Self> {
        let addresses: BTreeSet<IpAddr> = addresses.iter().copied().collect();
        (!addresses.is_empty()).then_some(Self {
            addresses,
            serving: None,
        })
    }
}

impl Engine {
    /// Takes note of whether the server answers, and changes the plan.
    pub(super) fn hear_dns(&mut self, serving: bool) {
        let Some(dns) = &mut self.dns else {
            return;
        };
        let before = dns.serving.replace(serving);
        if before == Some(serving) {
            return;
        }
        self.tell(Output::DnsServing(serving));
        match (before, serving) {
            (Some(true), false) => {
                let message = "the DNS server of this node does not answer; questions go to the servers of the cluster until it does";
                self.event(true, "NodeDnsSilent", message.to_owned());
            }
            (Some(false), true) => {
                let message = "the DNS server of this node answers";
                self.event(false, "NodeDnsServing", message.to_owned());
            }
            _ => {}
        }
        let view = self.dns_view();
        if let Some(compiled) = &mut self.compiled
            && compiled.view().dns != view
        {
            compiled.set_dns(view);
            self.plan_is_new = true;
        }
    }

    /// The part of the view.
    pub(super) fn dns_view(&mut self) -> Option<DnsView> {
        let dns = self.dns.as_ref()?;
        let serving = match (dns.serving, &mut self.kernel) {
            (Some(serving), _) => serving,
            (None, None) => false,
            (None, Some(kernel)) => {
                kernel.learn().is_ok() && compile::answers_dns(&kernel.have.table)
            }
        };
        Some(DnsView {
            addresses: dns.addresses.clone(),
            serving,
        })
    }
}
