//! DEL, and everything else by which an attachment ends: the record first, then the kernel.

use weft_cni::error::code;
use weft_cni::wire::Response;
use weft_core::names;
use weft_core::view::AttachmentKey;

use super::Output;
use super::fault::{FaultPoint, Killed};
use super::report::{Trouble, chain};
use super::requests::{Del, failed, key};
use super::round::Engine;

impl Engine {
    /// Carries out DELs. Unknown is success. Before the record is open they wait in the spool.
    pub(super) fn detach(&mut self, dels: Vec<Del>) -> Result<(), Killed> {
        if dels.is_empty() {
            return Ok(());
        }
        if self.addresses.is_none() || self.kernel.is_none() {
            dels.into_iter().for_each(|del| self.postpone(del));
            return Ok(());
        }
        let keys: Vec<AttachmentKey> = dels.iter().map(|del| key(&del.attachment)).collect();
        self.stop_waiting(&keys);
        let outcome = self.remove(&keys)?;
        for del in dels {
            let Del { reply, file, .. } = del;
            let response = match &outcome {
                Ok(()) => {
                    self.counters.dels += 1;
                    if let Some(file) = &file {
                        self.spool.done(file);
                    }
                    Response::Done
                }
                Err(sentence) => failed(
                    code::TRY_AGAIN,
                    "the release could not be recorded",
                    sentence.clone(),
                ),
            };
            if let Some(reply) = reply {
                let _ = reply.send(response);
            }
        }
        self.retry_waiting = true;
        Ok(())
    }

    /// Ends attachments: record, kernel, connection tracking, in this order. Ends in the same state
    /// wherever it is cut off, as a repeated DEL and a restart go on from there.
    pub(super) fn remove(&mut self, keys: &[AttachmentKey]) -> Result<Result<(), String>, Killed> {
        let Some(addresses) = &mut self.addresses else {
            return Ok(Ok(()));
        };
        let released = match addresses.release(keys) {
            Ok(released) => released,
            Err(error) => {
                let sentence = chain(&error);
                self.troubles.set(Trouble::Disk, Some(sentence.clone()));
                return Ok(Err(sentence));
            }
        };
        if !released.is_empty() {
            self.troubles.set(Trouble::Disk, None);
            self.faults.pass(FaultPoint::Released)?;
        }
        // A link's name follows from the key, so even one that the record does not know is ours.
        let links: Vec<_> = keys.iter().map(names::pod_link).collect();
        if let Some(kernel) = &mut self.kernel
            && let Err(error) = kernel.unwire(&links)
        {
            kernel.net_known = false;
            self.troubles.set(Trouble::Kernel, Some(error.to_string()));
        }
        for key in keys {
            if let Some(compiled) = &mut self.compiled
                && compiled.view().pods.contains_key(key)
            {
                compiled.set_pod(key, None);
                self.plan_is_new = true;
            }
        }
        if self.plan_is_new && self.ready {
            self.commit();
        }
        let addresses = released.iter().flat_map(|assignment| &assignment.addresses);
        self.connections
            .forget(addresses.map(|assigned| assigned.address).collect());
        if !released.is_empty() {
            self.faults.pass(FaultPoint::Unwired)?;
        }
        for assignment in released {
            self.tell(Output::Released {
                key: assignment.key(),
                pod_uid: assignment.pod_uid,
                namespace: assignment.namespace,
            });
        }
        Ok(Ok(()))
    }

    /// An ADD that still waits is over when its sandbox goes.
    fn stop_waiting(&mut self, keys: &[AttachmentKey]) {
        let waiting = std::mem::take(&mut self.waiting);
        for add in waiting {
            if keys.contains(&key(&add.attachment)) {
                self.counters.add_failures += 1;
                let _ = add.reply.send(failed(
                    code::TRY_AGAIN,
                    "the sandbox is being deleted",
                    "a DEL came while ADD waited",
                ));
            } else {
                self.waiting.push(add);
            }
        }
    }

    fn postpone(&mut self, del: Del) {
        // What came from the spool is there still.
        let Some(reply) = del.reply else { return };
        let response = match self.spool.keep(&del.attachment) {
            Ok(()) => Response::Done,
            Err(error) => failed(
                code::TRY_AGAIN,
                "the request could not be queued",
                chain(&error),
            ),
        };
        let _ = reply.send(response);
    }
}
