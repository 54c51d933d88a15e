//! Entries of connection tracking that must not outlive the address that they are about.
//!
//! A new owner of an address would otherwise get the packets, and the translations, of its former owner's
//! connections. For IPv4 the kernel is asked to delete by address. One that cannot lists all entries
//! instead, and those of the address are deleted one by one. So it is for IPv6 on every kernel: its filter
//! compares IPv6 addresses the wrong way round (seen on 6.18) and lets through all but those of the address.
//! Connections that policies have revoked keep their entry and get a label.

mod label;
mod message;
mod stale;

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use crate::netlink::{Error, Transport, messages};
use message::End;

pub use label::{Connection, Labelled};

/// How often a listing is repeated that changes interrupted.
const ATTEMPTS: usize = 8;

/// A ctnetlink socket of one network namespace.
#[derive(Debug)]
pub struct ConntrackSocket {
    transport: Transport,
    dumps: u64,
}

impl ConntrackSocket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open() -> Result<Self, Error> {
        let transport = Transport::open(NETLINK_NETFILTER)?;
        transport.report_errors_in_full()?;
        Ok(Self {
            transport,
            dumps: 0,
        })
    }

    /// Deletes every entry that has the address as source or destination, before or after translation.
    ///
    /// # Errors
    /// When the socket fails or the kernel refuses.
    pub fn delete(&mut self, address: IpAddr) -> Result<(), Error> {
        if address.is_ipv6() {
            return self.delete_listed(address);
        }
        for end in End::ALL {
            if !self.delete_filtered(end, address)? {
                return self.delete_listed(address);
            }
        }
        Ok(())
    }

    /// How many dumps were asked for.
    #[must_use]
    pub fn dumps(&self) -> u64 {
        self.dumps
    }

    /// False where the kernel cannot delete by address.
    fn delete_filtered(&mut self, end: End, address: IpAddr) -> Result<bool, Error> {
        let request = message::deletion_by(end, address);
        match self.acknowledged(&request)? {
            None | Some(Errno::ENOENT) => Ok(true),
            Some(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(false),
            Some(errno) => Err(refused(errno)),
        }
    }

    /// Does the same by listing, as [`Self::delete`] does where the kernel cannot delete by address.
    ///
    /// # Errors
    /// When the socket fails or the kernel refuses.
    pub fn delete_listed(&mut self, address: IpAddr) -> Result<(), Error> {
        self.delete_all(&[address])
    }

    /// Deletes the entries of many addresses, listing all entries of each family once: less work than
    /// [`Self::delete`] for each, unless there are very many entries.
    ///
    /// # Errors
    /// When the socket fails or the kernel refuses.
    pub fn delete_all(&mut self, addresses: &[IpAddr]) -> Result<(), Error> {
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) =
            addresses.iter().partition(|address| address.is_ipv4());
        self.delete_all_of_family(&v4)?;
        self.delete_all_of_family(&v6)
    }

    fn delete_all_of_family(&mut self, addresses: &[IpAddr]) -> Result<(), Error> {
        let listed = self.list(addresses)?;
        self.delete_each(&listed)?;
        Ok(())
    }

    /// How many of the entries were still there.
    fn delete_each(&mut self, entries: &[message::Request]) -> Result<u64, Error> {
        let mut deleted = 0;
        for entry in entries {
            match self.acknowledged(entry)? {
                None => deleted += 1,
                Some(Errno::ENOENT) => {}
                Some(errno) => return Err(refused(errno)),
            }
        }
        Ok(deleted)
    }

    /// Requests to delete the entries of addresses of one family.
    fn list(&mut self, addresses: &[IpAddr]) -> Result<Vec<message::Request>, Error> {
        let Some(first) = addresses.first() else {
            return Ok(Vec::new());
        };
        self.dump(&message::list(*first), &|payload| {
            let mut of = addresses.iter();
            of.find_map(|address| message::deletion_of(payload, *address))
        })
    }

    /// What is to be done about each listed entry, or is to be known of it.
    fn dump<T>(
        &mut self,
        request: &message::Request,
        about: &dyn Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        self.dumps += 1;
        for _ in 0..ATTEMPTS {
            let sequence = self.transport.take_sequences(1);
            self.transport.drain();
            self.transport.send(&request.encode(NLM_F_DUMP, sequence))?;
            let mut found = Vec::new();
            let complete = self.transport.read_dump(sequence, &mut |message| {
                found.extend(about(message.payload));
                Ok(())
            })?;
            if complete {
                return Ok(found);
            }
        }
        Err(Error::Interrupted)
    }

    fn acknowledged(&mut self, request: &message::Request) -> Result<Option<Errno>, Error> {
        let sequence = self.transport.take_sequences(1);
        self.transport.drain();
        self.transport.send(&request.encode(NLM_F_ACK, sequence))?;
        loop {
            let datagram = self.transport.receive()?.ok_or(Error::Lost)?;
            for message in messages(datagram) {
                let message = message?;
                if message.header.sequence_number != sequence {
                    continue;
                }
                match message.acknowledgement() {
                    Some(Ok(())) => return Ok(None),
                    Some(Err(refusal)) => return Ok(Some(refusal.errno)),
                    None => {}
                }
            }
        }
    }
}

fn refused(errno: Errno) -> Error {
    Error::Refused(crate::netlink::Refusal {
        errno,
        explanation: Some("while changing entries of connection tracking".to_owned()),
    })
}
