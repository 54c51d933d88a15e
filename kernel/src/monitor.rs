//! What others do to our objects, as the kernel tells it: links, addresses, neighbours, forwarding
//! entries, routes, and where the table has no owner, the table.
//!
//! Events carry what is there now, so that a reader that knows what should be there can tell a repair
//! from a matter of course without listing anything. Changes made by sockets named as our own are left
//! out, but the kernel tells the end of neighbours and forwarding entries without a name. A queue that overflowed is an event too: everything must be read back.

mod route;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use weft_core::plan::{LinkAddress, LinkName, Mac, PodLink, Route, VxlanLink};

use crate::net::link;
use crate::netlink::{Error, Socket, Transport, messages};

// Multicast groups of linux/rtnetlink.h and linux/netfilter/nfnetlink.h.
const ROUTE_GROUPS: [u32; 6] = [
    1,  // RTNLGRP_LINK
    3,  // RTNLGRP_NEIGH
    5,  // RTNLGRP_IPV4_IFADDR
    7,  // RTNLGRP_IPV4_ROUTE
    9,  // RTNLGRP_IPV6_IFADDR
    11, // RTNLGRP_IPV6_ROUTE
];
const NFNLGRP_NFTABLES: u32 = 7;
/// Room for notifications while their reader is busy.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Something about an object of ours changed, by somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What changed.
    pub what: What,
    /// Who changed it, as far as the kernel says.
    pub by: By,
}

/// Who made a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct By {
    /// Number of the netlink socket; the first of a process has that process's id as its number. None for
    /// what the kernel did by itself.
    pub port: Option<u32>,
    /// The thread that committed an nf_tables transaction: its id in the first process namespace.
    pub process: Option<u32>,
    /// Its name.
    pub name: Option<String>,
}

/// What changed. `now` is what is there; none if it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A VXLAN device of ours; MTU 0 says that it is down.
    Vxlan {
        /// Its name.
        link: LinkName,
        /// Its properties.
        now: Option<VxlanLink>,
    },
    /// The host's end of a pod's veth pair; MTU 0 says that it is down.
    PodLink {
        /// Its name.
        link: LinkName,
        /// Its properties.
        now: Option<PodLink>,
    },
    /// An address on a link of ours.
    Address {
        /// The address.
        address: LinkAddress,
        /// It is gone.
        gone: bool,
    },
    /// A permanent neighbour on a link of ours.
    Neighbour {
        /// The link.
        link: LinkName,
        /// Its address.
        address: IpAddr,
        /// Its hardware address, if there is a permanent entry.
        now: Option<Mac>,
    },
    /// A forwarding entry of a VXLAN device of ours.
    Forwarding {
        /// The device.
        link: LinkName,
        /// The hardware address.
        mac: Mac,
        /// The node behind which it is.
        now: Option<IpAddr>,
    },
    /// A route of our protocol.
    Route {
        /// Its destination.
        to: IpNet,
        /// The route.
        now: Option<Route>,
    },
    /// Our nft table, or something in it.
    Table {
        /// What was done first, such as `deleted the table`.
        first: String,
        /// How many things were made or deleted in the transaction.
        changes: usize,
    },
    /// Notifications were lost: everything must be read back.
    Overflow,
}

impl What {
    fn is_same_object(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Vxlan { link: a, .. }, Self::Vxlan { link: b, .. })
            | (Self::PodLink { link: a, .. }, Self::PodLink { link: b, .. }) => a == b,
            (Self::Address { address: a, .. }, Self::Address { address: b, .. }) => {
                (&a.link, a.address) == (&b.link, b.address)
            }
            (
                Self::Neighbour {
                    link: a,
                    address: one,
                    ..
                },
                Self::Neighbour {
                    link: b,
                    address: other,
                    ..
                },
            ) => (a, one) == (b, other),
            (
                Self::Forwarding {
                    link: a, mac: one, ..
                },
                Self::Forwarding {
                    link: b,
                    mac: other,
                    ..
                },
            ) => (a, one) == (b, other),
            (Self::Route { to: a, .. }, Self::Route { to: b, .. }) => a == b,
            _ => false,
        }
    }
}

/// Listens to what others do.
#[derive(Debug)]
pub struct Monitor {
    route: Transport,
    table: Option<table::Listener>,
    own_ports: BTreeSet<u32>,
    names: BTreeMap<u32, LinkName>,
    host_changed: bool,
}

impl Monitor {
    /// Listens in the calling thread's network namespace, which `socket` must be of too. `table` is the nft table
    /// to listen for; none where nobody else can change it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open(socket: &mut Socket, table: Option<&str>) -> Result<Self, Error> {
        let route = Transport::open(NETLINK_ROUTE)?;
        route.grow_buffers(0, RECEIVE_BUFFER);
        for group in ROUTE_GROUPS {
            route.join(group)?;
        }
        let table = table.map(|name| {
            let transport = Transport::open(NETLINK_NETFILTER)?;
            transport.grow_buffers(0, RECEIVE_BUFFER);
            transport.join(NFNLGRP_NFTABLES)?;
            Ok(table::Listener::new(transport, name))
        });
        let mut monitor = Self {
            route,
            table: table.transpose()?,
            own_ports: BTreeSet::new(),
            names: BTreeMap::new(),
            host_changed: false,
        };
        monitor.learn_names(socket)?;
        Ok(monitor)
    }

    /// Leaves out what the socket of this number does.
    pub fn ignore(&mut self, port: u32) {
        self.own_ports.insert(port);
    }

    /// Descriptors to wait on, beside others, until they are readable.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let table = self.table.as_ref().map(table::Listener::as_fd);
        std::iter::once(self.route.as_fd()).chain(table)
    }

    /// Everything that has happened since the last call; does not wait.
    ///
    /// # Errors
    /// When a socket fails.
    pub fn read_events(&mut self) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        self.read_route(&mut events)?;
        if let Some(table) = &mut self.table {
            table.read(&self.own_ports, &mut events)?;
        }
        Ok(events)
    }

    /// Whether, since the last call, anything was told of links that are not ours or of their addresses: then
    /// the node's own interfaces may be different, and routes that left by them may be gone without a word,
    /// as the kernel does not tell of those that it drops with a link.
    pub fn take_host_changed(&mut self) -> bool {
        std::mem::take(&mut self.host_changed)
    }

    fn read_route(&mut self, events: &mut Vec<Event>) -> Result<(), Error> {
        loop {
            let datagram = match self.route.receive() {
                Ok(Some(datagram)) => datagram,
                Ok(None) => return Ok(()),
                Err(Error::Lost) => {
                    events.push(overflow());
                    continue;
                }
                Err(error) => return Err(error),
            };
            for message in messages(datagram) {
                let message = message?;
                let port = message.header.port_number;
                let Some(what) = route::read(&message, &mut self.names, &mut self.host_changed)
                else {
                    continue;
                };
                if self.own_ports.contains(&port) {
                    // The kernel tells the end of some objects without saying whose doing it was; what we made
                    // of it since is what counts.
                    events.retain(|event| !event.what.is_same_object(&what));
                } else {
                    let by = By {
                        port: (port != 0).then_some(port),
                        ..By::default()
                    };
                    events.push(Event { what, by });
                }
            }
        }
    }

    /// Links' names by index: notifications about what is on a link have the index alone.
    fn learn_names(&mut self, socket: &mut Socket) -> Result<(), Error> {
        for message in socket.dump(&link::list(), |_| true)? {
            if let RouteNetlinkMessage::NewLink(message) = message {
                let link = link::read(&message);
                self.names.insert(link.index, link.name);
            }
        }
        Ok(())
    }
}

fn overflow() -> Event {
    Event {
        what: What::Overflow,
        by: By::default(),
    }
}
