//! Labels of tracked connections: what is judged about a connection, and the mark that it is revoked.
//!
//! An entry has room for labels if some rule of the ruleset set one when the entry was made.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nix::errno::Errno;

use super::message::{self, Tracked};
use super::{ConntrackSocket, Error, refused};

/// A tracked connection between two addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// IANA number of the protocol.
    pub protocol: u8,
    /// Who made it, before translation.
    pub source: IpAddr,
    /// Who answers: its destination after translation.
    pub destination: IpAddr,
    /// The port there; 0 for protocols without ports.
    pub port: u16,
    /// Bits of its label.
    label: u128,
    key: message::Request,
}

/// What became of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labelled {
    /// The entry is as wanted.
    Done,
    /// There is no such entry any more.
    Gone,
    /// The entry has no room for labels.
    NoRoom,
}

impl Connection {
    /// Whether it has a label.
    #[must_use]
    pub fn has(&self, bit: u8) -> bool {
        self.label.checked_shr(bit.into()).unwrap_or(0) & 1 != 0
    }
}

impl ConntrackSocket {
    /// The connections that one of these addresses makes or answers: one listing for each family.
    ///
    /// # Errors
    /// When the socket fails or the kernel refuses.
    pub fn connections(&mut self, of: &BTreeSet<IpAddr>) -> Result<Vec<Connection>, Error> {
        let mut found = Vec::new();
        for ipv6 in [false, true] {
            let Some(any) = of.iter().find(|address| address.is_ipv6() == ipv6) else {
                continue;
            };
            found.extend(self.dump(&message::list(*any), &|payload| connection(payload, of))?);
        }
        Ok(found)
    }

    /// Sets a bit of a connection's label, or takes it away.
    ///
    /// # Errors
    /// When the socket fails or the kernel refuses.
    pub fn label(&mut self, of: &Connection, bit: u8, set: bool) -> Result<Labelled, Error> {
        match self.acknowledged(&message::labelling(&of.key, bit, set))? {
            None => Ok(Labelled::Done),
            Some(Errno::ENOENT) => Ok(Labelled::Gone),
            Some(Errno::ENOSPC) => Ok(Labelled::NoRoom),
            Some(errno) => Err(refused(errno)),
        }
    }

    /// Deletes a connection's entry.
    ///
    /// # Errors
    /// When the socket fails or the kernel refuses.
    pub fn delete_connection(&mut self, connection: &Connection) -> Result<(), Error> {
        self.delete_each(std::slice::from_ref(&connection.key))?;
        Ok(())
    }
}

fn connection(payload: &[u8], of: &BTreeSet<IpAddr>) -> Option<Connection> {
    let Tracked {
        protocol,
        source,
        answers,
        port,
        label,
    } = message::tracked(payload)?;
    if !of.contains(&source) && !of.contains(&answers) {
        return None;
    }
    Some(Connection {
        protocol,
        source,
        destination: answers,
        port,
        label,
        key: message::deletion(payload, source.is_ipv6())?,
    })
}
