//! ADD, many at a time: one fsync for all addresses, one transaction for all isolation, then answers.

use std::time::Instant;

use weft_cni::error::code;
use weft_cni::wire::{Added, Attachment, Response};
use weft_core::compile::mtu;
use weft_core::names;
use weft_core::view::AttachmentKey;
use weft_kernel::pod::Wiring;

use super::addresses::{pod_view, unix_seconds};
use super::fault::{FaultPoint, Killed};
use super::ports;
use super::report::{Trouble, chain};
use super::requests::{Add, failed, key};
use super::round::Engine;
use super::{Attached, Output};
use crate::record::Assignment;

/// An ADD on its way through the steps.
struct Job {
    add: Add,
    assignment: Assignment,
    /// The record does not have it like this yet.
    fresh: bool,
}

/// Why an ADD cannot be served.
enum Refusal {
    /// It may change within moments.
    Wait(Response),
    /// It will not.
    Now(Response),
}

impl Engine {
    /// Serves what can be served; the rest waits for its deadline.
    pub(super) fn attach(&mut self, mut adds: Vec<Add>) -> Result<(), Killed> {
        while !adds.is_empty() {
            let mut jobs: Vec<Job> = Vec::new();
            let mut again = Vec::new();
            for add in adds {
                if add.reply.is_closed() {
                    self.forget_wait(&key(&add.attachment));
                } else if jobs
                    .iter()
                    .any(|job| job.assignment.key() == key(&add.attachment))
                {
                    // The same request twice at once: the second finds what the first has made.
                    again.push(add);
                } else {
                    match self.prepare(&add, &jobs) {
                        Ok((assignment, fresh)) => jobs.push(Job {
                            add,
                            assignment,
                            fresh,
                        }),
                        Err(Refusal::Now(refusal)) => self.refuse(add, refusal),
                        Err(Refusal::Wait(refusal)) => self.wait(add, refusal),
                    }
                }
            }
            if !jobs.is_empty() {
                self.carry_out(jobs)?;
            }
            adds = again;
        }
        Ok(())
    }

    /// Answers what has waited long enough.
    pub(super) fn give_up_waiting(&mut self, now: Instant) {
        let (late, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|add: &Add| add.deadline <= now);
        self.waiting = waiting;
        for add in late {
            let Add { refusal, reply, .. } = add;
            self.counters.add_failures += 1;
            let _ = reply.send(refusal);
        }
    }

    fn wait(&mut self, add: Add, refusal: Response) {
        if add.deadline <= Instant::now() {
            self.refuse(add, refusal);
        } else {
            self.waiting.push(Add { refusal, ..add });
        }
    }

    fn refuse(&mut self, add: Add, refusal: Response) {
        self.counters.add_failures += 1;
        let _ = add.reply.send(refusal);
    }

    fn forget_wait(&mut self, key: &AttachmentKey) {
        if let Some(addresses) = &mut self.addresses {
            addresses.give_back(key);
        }
    }

    fn prepare(&mut self, add: &Add, jobs: &[Job]) -> Result<(Assignment, bool), Refusal> {
        let Attachment {
            container_id,
            ifname,
            netns,
            pod_namespace,
            pod_name,
            pod_uid,
            port_mappings,
        } = &add.attachment;
        if add.pod_netlink.is_none() {
            let details = "the request came without a socket of the pod's namespace; update weft-cni and weft-agent together";
            return Err(Refusal::Now(failed(
                code::DECODE,
                "request is not whole",
                details,
            )));
        }
        if let Some(sentence) = self.troubles.get(Trouble::Record) {
            return Err(Refusal::Now(failed(
                code::TRY_AGAIN,
                "the record of addresses cannot be used",
                sentence,
            )));
        }
        let step = "the agent is not in step with the cluster yet";
        let (Some(addresses), Some(compiled), true) =
            (&mut self.addresses, &self.compiled, self.ready)
        else {
            let why = self
                .troubles
                .get(Trouble::Kernel)
                .unwrap_or("the agent has just started; try again later");
            return Err(Refusal::Wait(failed(code::TRY_AGAIN, step, why)));
        };
        let key = key(&add.attachment);
        let ports_wanted = ports::wanted(port_mappings).map_err(|error| {
            Refusal::Now(failed(
                code::CONFIG,
                "host ports cannot be honoured",
                error.to_string(),
            ))
        })?;
        let others =
            ports::holders(addresses.state()).chain(jobs.iter().map(|job| &job.assignment));
        ports::free(&ports_wanted, &key, others).map_err(|error| {
            Refusal::Now(failed(
                code::TRY_AGAIN,
                "host port is taken",
                error.to_string(),
            ))
        })?;
        let mtu = mtu::pod_device(compiled.view());
        let known = addresses.state().assignments.get(&key).cloned();
        let leases = match &known {
            Some(known) => known.addresses.clone(),
            None if !self.assigns => {
                let why = "this node has booted and no API server has answered since, so its blocks may belong to others by now [WEFT-1612]";
                return Err(Refusal::Wait(failed(code::TRY_AGAIN, step, why)));
            }
            None => addresses.choose(&key).map_err(|error| {
                let details = format!("{error} [{}]", error.code());
                Refusal::Wait(failed(code::TRY_AGAIN, "no address for the pod", details))
            })?,
        };
        let assignment = Assignment {
            container_id: container_id.clone(),
            ifname: ifname.clone(),
            netns: netns.clone(),
            pod_uid: pod_uid.clone(),
            namespace: pod_namespace.clone(),
            name: pod_name.clone(),
            host_link: names::pod_link(&key),
            host_mac: names::host_mac(&key),
            pod_mac: names::pod_mac(&key),
            mtu,
            addresses: leases,
            host_ports: ports_wanted,
            time: known.as_ref().map_or_else(unix_seconds, |known| known.time),
        };
        let fresh = known.as_ref() != Some(&assignment);
        Ok((assignment, fresh))
    }

    fn carry_out(&mut self, jobs: Vec<Job>) -> Result<(), Killed> {
        self.faults.pass(FaultPoint::Chosen)?;
        let jobs = self.record(jobs);
        self.faults.pass(FaultPoint::Recorded)?;
        let mut wired = Vec::new();
        for job in jobs {
            // A DEL that waited from an earlier life of this name is not meant for it.
            self.spool.forget(&job.assignment.key());
            wired.extend(self.wire(job)?);
        }
        self.faults.pass(FaultPoint::Wired)?;
        let keys: Vec<AttachmentKey> = wired.iter().map(|job: &Job| job.assignment.key()).collect();
        if let Some(sentence) = self.isolate(&keys)? {
            for job in wired {
                let refusal = failed(
                    code::TRY_AGAIN,
                    "the pod's isolation is not in the kernel",
                    sentence.clone(),
                );
                self.undo(job, refusal)?;
            }
            return Ok(());
        }
        let failures = self.commit();
        self.faults.pass(FaultPoint::Committed)?;
        for job in wired {
            let trouble = match &failures.table {
                Some(sentence) => Some(sentence.clone()),
                None => failures
                    .net
                    .iter()
                    .find(|sentence| concerns(sentence, &job.assignment))
                    .cloned(),
            };
            match trouble {
                Some(sentence) => {
                    let refusal = failed(
                        code::TRY_AGAIN,
                        "the pod's isolation or route is not in the kernel",
                        sentence,
                    );
                    self.undo(job, refusal)?;
                }
                None => self.succeed(job),
            }
        }
        Ok(())
    }

    /// One fsync for all.
    fn record(&mut self, jobs: Vec<Job>) -> Vec<Job> {
        let fresh = jobs
            .iter()
            .filter(|job| job.fresh)
            .map(|job| job.assignment.clone())
            .collect();
        let Some(addresses) = &mut self.addresses else {
            return Vec::new();
        };
        match addresses.keep(fresh) {
            Ok(()) => {
                self.troubles.set(Trouble::Disk, None);
                jobs
            }
            Err(error) => {
                let sentence = chain(&error);
                let keys: Vec<_> = jobs.iter().map(|job| job.assignment.key()).collect();
                keys.iter().for_each(|key| addresses.give_back(key));
                self.troubles.set(Trouble::Disk, Some(sentence.clone()));
                for job in jobs {
                    self.refuse(
                        job.add,
                        failed(
                            code::IO,
                            "the address could not be recorded",
                            sentence.clone(),
                        ),
                    );
                }
                Vec::new()
            }
        }
    }

    fn wire(&mut self, mut job: Job) -> Result<Option<Job>, Killed> {
        let Some(kernel) = &mut self.kernel else {
            return Ok(None);
        };
        let Some(socket) = job.add.pod_netlink.take() else {
            return Ok(None);
        };
        match kernel.wire(socket, &wiring(&job.assignment)) {
            Ok(wired) => {
                if let Some(compiled) = &mut self.compiled {
                    let view = pod_view(&job.assignment, Some(wired.host_index));
                    compiled.set_pod(&job.assignment.key(), Some(view));
                }
                Ok(Some(job))
            }
            Err(error) => {
                let refusal = failed(
                    code::IO,
                    "the pod's interface could not be made",
                    error.to_string(),
                );
                self.undo(job, refusal)?;
                Ok(None)
            }
        }
    }

    /// Takes everything back, record and kernel, and says why.
    fn undo(&mut self, job: Job, refusal: Response) -> Result<(), Killed> {
        // What cannot be taken back now is found again by the runtime's DEL, or by the proof of absence.
        let _ = self.remove(&[job.assignment.key()])?;
        self.refuse(job.add, refusal);
        Ok(())
    }

    fn succeed(&mut self, job: Job) {
        let Job {
            add, assignment, ..
        } = job;
        self.counters.adds += 1;
        let _ = add.reply.send(Response::Added(added(&assignment)));
        self.tell(Output::Attached(attached(&assignment)));
    }
}

/// What a pod's interface should be like.
pub(super) fn wiring(assignment: &Assignment) -> Wiring {
    Wiring {
        host_link: assignment.host_link.clone(),
        ifname: assignment.ifname.clone(),
        host_mac: assignment.host_mac,
        pod_mac: assignment.pod_mac,
        mtu: assignment.mtu,
        addresses: assignment
            .addresses
            .iter()
            .map(|assigned| assigned.address)
            .collect(),
        host_ipv4: std::collections::BTreeMap::new(),
    }
}

/// What the runtime is told.
pub(super) fn added(assignment: &Assignment) -> Added {
    Added {
        host_link: assignment.host_link.clone(),
        host_mac: assignment.host_mac.to_string(),
        pod_mac: assignment.pod_mac.to_string(),
        mtu: assignment.mtu,
        addresses: assignment
            .addresses
            .iter()
            .map(|assigned| assigned.address)
            .collect(),
    }
}

/// What the cluster is told.
pub(super) fn attached(assignment: &Assignment) -> Attached {
    Attached {
        key: assignment.key(),
        pod_uid: assignment.pod_uid.clone(),
        namespace: assignment.namespace.clone(),
        name: assignment.name.clone(),
        addresses: assignment
            .addresses
            .iter()
            .map(|assigned| assigned.address)
            .collect(),
        pools: assignment
            .addresses
            .iter()
            .map(|assigned| assigned.pool.clone())
            .collect(),
    }
}

/// A failure names its object: the pod's link, or one of its addresses.
fn concerns(sentence: &str, assignment: &Assignment) -> bool {
    let mut words = sentence.split(|c: char| c.is_whitespace() || c == '/' || c == ',');
    words.any(|word| {
        word == assignment.host_link
            || assignment
                .addresses
                .iter()
                .any(|assigned| word == assigned.address.to_string())
    })
}
