//! The zones that the cluster itself makes: their apex, and what all answers of one moment share.

use super::config::{Config, ZoneKind};
use super::name::{Name, NameError};

/// A zone that answers from cluster data.
#[derive(Clone, Debug)]
pub(crate) struct BuiltIn {
    pub apex: Name,
    pub kind: ZoneKind,
    /// The name of the zone's server.
    pub server: Name,
    /// What follows the labels of service and namespace.
    pub base: Box<[u8]>,
    /// Server and mailbox of the SOA record, in wire form.
    head: Box<[u8]>,
}

/// What all answers of one moment share.
pub(crate) struct Context<'a> {
    pub config: &'a Config,
    /// What follows service and namespace in the zone that reverse names point into.
    pub base: &'a [u8],
    /// The same for addresses outside the cluster.
    pub external_base: Option<&'a [u8]>,
    pub serial: u32,
}

impl Context<'_> {
    /// Time to live of SOA records: a missing name is remembered as long as a name, and no longer than five minutes.
    pub fn soa_ttl(&self) -> u32 {
        self.config.ttl.min(300)
    }
}

impl BuiltIn {
    pub fn new(apex: Name, kind: ZoneKind) -> Result<Self, NameError> {
        let (server, mailbox, base) = match kind {
            ZoneKind::External => ("ns1.dns", "hostmaster.dns", apex.wire().into()),
            _ => (
                "ns.dns",
                "hostmaster",
                [b"\x03svc", apex.wire()].concat().into(),
            ),
        };
        let server = Name::parse(server, Some(&apex))?;
        let mailbox = Name::parse(mailbox, Some(&apex))?;
        Ok(Self {
            head: [server.wire(), mailbox.wire()].concat().into(),
            apex,
            kind,
            server,
            base,
        })
    }

    /// The data of the SOA record: refresh, retry and expire are CoreDNS's, the rest is ours.
    pub fn soa<'b>(&self, context: &Context<'_>, buffer: &'b mut [u8; 530]) -> &'b [u8] {
        let at = self.head.len();
        buffer[..at].copy_from_slice(&self.head);
        let numbers = [context.serial, 7200, 1800, 86_400, context.config.ttl];
        for (index, number) in numbers.into_iter().enumerate() {
            let from = at + index * 4;
            buffer[from..from + 4].copy_from_slice(&number.to_be_bytes());
        }
        &buffer[..at + 20]
    }
}
