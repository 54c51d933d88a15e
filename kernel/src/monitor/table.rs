//! nf_tables notifications, gathered into one event per transaction.
//!
//! The kernel tells each change and at the end the new generation, with the name of who committed it.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use weft_nft::decode::{Content, Object};

use super::{By, Event, What, overflow};
use crate::netlink::{Error, Transport, messages};

/// Listens for changes of one table.
#[derive(Debug)]
pub(super) struct Listener {
    transport: Transport,
    table: String,
    /// Of the transaction that is being told.
    first: Option<String>,
    changes: usize,
}

impl Listener {
    pub(super) fn new(transport: Transport, table: &str) -> Self {
        Self {
            transport,
            table: table.to_owned(),
            first: None,
            changes: 0,
        }
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.transport.as_fd()
    }

    pub(super) fn read(
        &mut self,
        own_ports: &BTreeSet<u32>,
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        loop {
            let datagram = match self.transport.receive() {
                Ok(Some(datagram)) => datagram,
                Ok(None) => return Ok(()),
                Err(Error::Lost) => {
                    self.first = None;
                    self.changes = 0;
                    events.push(overflow());
                    continue;
                }
                Err(error) => return Err(error),
            };
            for message in messages(datagram) {
                let message = message?;
                let port = message.header.port_number;
                let decoded = weft_nft::decode::messages(message.whole).next();
                let Some(Ok(decoded)) = decoded else {
                    continue;
                };
                if decoded.concerns(&self.table) && !own_ports.contains(&port) {
                    self.changes += 1;
                    self.first.get_or_insert_with(|| words(&decoded.content));
                }
                if let Content::New(Object::Generation {
                    id: _,
                    process,
                    name,
                }) = decoded.content
                {
                    let changes = std::mem::take(&mut self.changes);
                    if let Some(first) = self.first.take() {
                        let by = By {
                            port: (port != 0).then_some(port),
                            process,
                            name,
                        };
                        events.push(Event {
                            what: What::Table { first, changes },
                            by,
                        });
                    }
                }
            }
        }
    }
}

fn words(content: &Content) -> String {
    let (verb, object) = match content {
        Content::New(object) => ("made", object),
        Content::Deleted(object) => ("deleted", object),
        _ => return "changed something".to_owned(),
    };
    match object {
        Object::Table { .. } => format!("{verb} the table"),
        Object::Chain(chain) => format!("{verb} chain {}", chain.name),
        Object::Rule(rule) => format!("{verb} a rule of chain {}", rule.chain),
        Object::Set(set) => format!("{verb} set {}", set.name),
        Object::Elements(elements) => format!("{verb} elements of set {}", elements.set),
        Object::Generation { .. } | Object::Foreign { .. } => "changed something".to_owned(),
    }
}
