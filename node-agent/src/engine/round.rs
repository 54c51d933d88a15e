//! The engine's thread: wait, take everything that has arrived, do it in one round, answer.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc::UnboundedSender;
use weft_core::compile::Incremental;
use weft_core::finding::Rejection;
use weft_core::view::{AttachmentKey, HostView};

use super::absence::Absences;
use super::addresses::Addresses;
use super::commit::Failures;
use super::connections::Connections;
use super::dns::NodeDns;
use super::fault::{Faults, Killed};
use super::inbox::{Arrived, Inbox};
use super::kernel::Kernel;
use super::opening::Opening;
use super::policy::Enforcer;
use super::report::{Told, Trouble, Troubles};
use super::requests::{Add, Del, Requests};
use super::services::Balancer;
use super::spool::Spool;
use super::{ClusterInput, Counters, EngineConfig, Input, Output, snapshot};

/// Between attempts to make the kernel what the plan says, after one failed.
const RETRY: Duration = Duration::from_secs(1);
/// How often cool-downs are looked at while an address rests.
const COOL_DOWN: Duration = Duration::from_secs(1);
/// How often the host's own sysctls are compared with the plan.
const SYSCTLS: Duration = Duration::from_secs(1);
/// How often the node's own interfaces are looked at.
const HOST: Duration = Duration::from_secs(30);
/// How soon after the kernel told of one.
const HOST_SOON: Duration = Duration::from_millis(200);
/// How often everything is read back.
const AUDIT: Duration = Duration::from_secs(300);
/// How soon after the first plan is in the kernel.
const FIRST_AUDIT: Duration = Duration::from_secs(5);
/// Between signs of life.
const ALIVE: Duration = Duration::from_secs(10);
/// Between reports that are not urgent.
const REPORT: Duration = Duration::from_millis(100);

/// What of the configuration is needed after the start.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) node: String,
    pub(super) state_dir: PathBuf,
    pub(super) grace: Duration,
}

/// When what is done next that time alone demands.
#[derive(Debug)]
struct Timers {
    absence: Instant,
    spool: Instant,
    cool_down: Instant,
    sysctls: Instant,
    host: Instant,
    audit: Instant,
    report: Instant,
    /// Rounds are frequent enough: nothing wakes for this.
    alive: Instant,
    /// Set while the kernel is not as planned.
    retry: Option<Instant>,
}

/// The engine.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) config: Config,
    pub(super) faults: Faults,
    out: UnboundedSender<Output>,
    inbox: Inbox,
    pub(super) snapshot: snapshot::Writer,
    pub(super) kernel: Option<Kernel>,
    /// Set until the kernel's sockets are open.
    pub(super) opening: Option<Opening>,
    pub(super) connections: Connections,
    /// Where this node serves Services.
    pub(super) balancer: Option<Balancer>,
    /// Where this node has a DNS server.
    pub(super) dns: Option<NodeDns>,
    /// Where this node enforces policies.
    pub(super) enforcer: Option<Enforcer>,
    pub(super) addresses: Option<Addresses>,
    pub(super) cluster: Option<Arc<ClusterInput>>,
    /// It is from the API server, or was on disk since this boot.
    pub(super) cluster_is_of_this_boot: bool,
    pub(super) compiled: Option<Incremental>,
    pub(super) rejections: Vec<Rejection>,
    pub(super) host: HostView,
    pub(super) host_known: bool,
    host_changed: bool,
    pub(super) waiting: Vec<Add>,
    pub(super) absences: Absences,
    pub(super) gc_marks: BTreeMap<AttachmentKey, Instant>,
    pub(super) spool: Spool,
    /// Foreign changes that may be a pod's namespace going: since when, its link, the sentence.
    pub(super) doubts: Vec<(Instant, String, String)>,
    pub(super) troubles: Troubles,
    pub(super) told: Told,
    pub(super) counters: Counters,
    timers: Timers,
    pub(super) started: Instant,
    pub(super) fell_back: bool,
    /// The cluster or the host has changed since the view was made.
    pub(super) view_is_old: bool,
    /// The plan has changed since it was committed.
    pub(super) plan_is_new: bool,
    /// What waits may be served now.
    pub(super) retry_waiting: bool,
    /// A full plan is in the kernel.
    pub(super) ready: bool,
    /// The book has such a list of blocks: new addresses may be given.
    pub(super) assigns: bool,
    /// It has been once.
    pub(super) was_ready: bool,
    /// Generation of the spec that is in force.
    pub(super) in_force: Option<i64>,
}

/// Starts the thread. Where even that fails, the outputs end at once.
pub(super) fn spawn(
    config: EngineConfig,
    faults: Faults,
    received: Receiver<Input>,
    out: UnboundedSender<Output>,
) {
    let started = std::thread::Builder::new()
        .name("engine".to_owned())
        .spawn(move || {
            let mut engine = match Engine::new(config, faults, received, out.clone()) {
                Ok(engine) => engine,
                Err(error) => {
                    let message = format!("the engine cannot start: {error}");
                    let _ = out.send(Output::Event {
                        warning: true,
                        reason: "EngineFailed",
                        message,
                    });
                    return;
                }
            };
            // A fault of a test: everything is dropped as it stands.
            let _: Result<(), Killed> = engine.run();
        });
    drop(started);
}

impl Engine {
    fn new(
        config: EngineConfig,
        faults: Faults,
        received: Receiver<Input>,
        out: UnboundedSender<Output>,
    ) -> std::io::Result<Self> {
        let EngineConfig {
            node,
            state_dir,
            spool_dir,
            netns_dir,
            sysctl_dir,
            boot_id,
            grace_seconds,
            nft_socket,
            services,
            dns,
            policies,
        } = config;
        let grace = Duration::from_secs(grace_seconds);
        crate::record::Files::new(state_dir.clone())?;
        let inbox = Inbox::new(received)?;
        let connections = Connections::new(sysctl_dir.clone(), out.clone(), inbox.waker())?;
        let opening = Opening::new(nft_socket, sysctl_dir, state_dir.clone());
        let place = snapshot::Place::new(&state_dir, &node, &boot_id);
        let now = Instant::now();
        let mut this = Self {
            snapshot: snapshot::Writer::new(place, inbox.waker())?,
            config: Config {
                node,
                state_dir,
                grace,
            },
            faults,
            out,
            inbox,
            kernel: None,
            opening: Some(opening),
            connections,
            balancer: services.map(Balancer::new),
            dns: NodeDns::new(&dns),
            enforcer: policies.then(Enforcer::default),
            addresses: None,
            cluster: None,
            cluster_is_of_this_boot: false,
            compiled: None,
            rejections: Vec::new(),
            host: HostView::default(),
            host_known: false,
            host_changed: false,
            waiting: Vec::new(),
            absences: Absences::new(netns_dir, grace),
            gc_marks: BTreeMap::new(),
            spool: Spool::new(spool_dir),
            doubts: Vec::new(),
            troubles: Troubles::default(),
            told: Told::default(),
            counters: Counters::default(),
            timers: Timers {
                absence: now,
                spool: now,
                cool_down: now,
                sysctls: now + SYSCTLS,
                host: now + HOST,
                audit: now + AUDIT,
                report: now,
                alive: now,
                retry: None,
            },
            started: now,
            fell_back: false,
            view_is_old: false,
            plan_is_new: false,
            retry_waiting: false,
            ready: false,
            assigns: false,
            was_ready: false,
            in_force: None,
        };
        this.open_kernel();
        Ok(this)
    }

    fn run(&mut self) -> Result<(), Killed> {
        loop {
            self.sleep();
            let arrived = self.inbox.take();
            if self.round(arrived)? {
                return Ok(());
            }
        }
    }

    /// Until something arrives, the kernel tells something, or time demands something.
    fn sleep(&self) {
        let left = self
            .next_deadline()
            .saturating_duration_since(Instant::now());
        // Rounded up: waking a moment early would mean to spin.
        let left = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
        let mut descriptors = vec![PollFd::new(self.inbox.as_fd(), PollFlags::POLLIN)];
        if let Some(kernel) = &self.kernel {
            descriptors.extend(
                kernel
                    .monitor
                    .descriptors()
                    .map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
            );
        }
        // An interrupted wait is a round with nothing in it.
        let _ = poll(&mut descriptors, PollTimeout::from(left));
    }

    fn next_deadline(&self) -> Instant {
        let Timers {
            absence,
            spool,
            cool_down,
            sysctls,
            host,
            audit,
            report,
            alive: _,
            retry,
        } = &self.timers;
        let mut next = vec![*absence, *spool, *sysctls, *host, *audit];
        next.extend(retry);
        next.extend(self.opening.as_ref().map(Opening::at));
        next.extend(self.waiting.iter().map(|add| add.deadline));
        if self
            .addresses
            .as_ref()
            .is_some_and(|addresses| !addresses.state().cooling.is_empty())
        {
            next.push(*cool_down);
        }
        if self.told.is_old {
            next.push(*report);
        }
        next.extend(self.balancer.as_ref().and_then(Balancer::next));
        next.extend(self.enforcer.as_ref().and_then(Enforcer::next));
        if self.cluster.is_none() && !self.fell_back {
            next.push(self.started + super::cluster::SNAPSHOT_AFTER);
        }
        next.into_iter()
            .min()
            .unwrap_or_else(|| Instant::now() + SYSCTLS)
    }

    /// One round. True: it was the last.
    fn round(&mut self, arrived: Arrived) -> Result<bool, Killed> {
        let now = Instant::now();
        let Arrived { inputs, closed } = arrived;
        let mut stop = closed;
        let mut requests = Requests::default();
        let mut heard = None;
        for input in inputs {
            match input {
                Input::Cluster(input) => heard = Some(input),
                Input::Services(input) => {
                    if let Some(balancer) = &mut self.balancer {
                        balancer.hear(input);
                    }
                }
                Input::Dns(serving) => self.hear_dns(serving),
                Input::Policy(input) => {
                    if let Some(enforcer) = &mut self.enforcer {
                        enforcer.hear(*input);
                    }
                }
                Input::Cni {
                    request,
                    pod_netlink,
                    reply,
                } => requests.push(request, pod_netlink, reply, now),
                Input::Stop => stop = true,
            }
        }
        self.open_kernel();
        if let Some(input) = heard {
            self.hear(input);
        }
        self.fall_back();
        self.notice_repairs();
        self.compile()?;
        if self.plan_is_new {
            self.commit();
        }
        self.balance()?;
        let Requests {
            adds,
            dels,
            checks,
            gcs,
            statuses,
        } = requests;
        self.detach(dels)?;
        self.on_time(now)?;
        let adds = self.with_waiting(adds);
        self.attach(adds)?;
        self.enforce()?;
        self.judge();
        self.give_up_waiting(now);
        checks.into_iter().for_each(|check| self.check(check));
        for (valid, reply) in gcs {
            let response = self.gc(valid, now)?;
            let _ = reply.send(response);
        }
        for reply in statuses {
            let _ = reply.send(self.status());
        }
        if self.plan_is_new && self.kernel.is_some() && self.timers.retry.is_none() {
            self.commit();
        }
        // What our own sockets did comes back as notifications of other sockets' at the most.
        self.report(now, self.timers.report);
        if self.timers.alive <= now {
            self.timers.alive = now + ALIVE;
            self.send(Output::Alive);
        }
        Ok(stop)
    }

    /// New requests, and those that wait where something has changed.
    fn with_waiting(&mut self, mut adds: Vec<Add>) -> Vec<Add> {
        if std::mem::take(&mut self.retry_waiting) {
            let mut all = std::mem::take(&mut self.waiting);
            all.append(&mut adds);
            return all;
        }
        adds
    }

    /// What time alone demands.
    fn on_time(&mut self, now: Instant) -> Result<(), Killed> {
        if self.timers.spool <= now {
            self.timers.spool = now + super::spool::INTERVAL;
            self.play_back()?;
        }
        if self.timers.absence <= now {
            self.timers.absence = now + self.absences.interval();
            self.reclaim(now)?;
        }
        if self.timers.cool_down <= now {
            self.timers.cool_down = now + COOL_DOWN;
            self.end_cool_downs();
        }
        if self.timers.host <= now {
            self.timers.host = now + HOST;
            self.look_at_host();
            self.compile()?;
            if std::mem::take(&mut self.host_changed)
                && let Some(kernel) = &mut self.kernel
            {
                kernel.net_known = false;
                self.plan_is_new = true;
            }
        }
        if self.timers.sysctls <= now {
            self.timers.sysctls = now + SYSCTLS;
            self.notice_sysctls();
            self.settle_doubts(now);
            let trouble = self.connections.trouble();
            self.troubles.set(Trouble::Conntrack, trouble);
            let trouble = self.snapshot.trouble();
            self.troubles.set(Trouble::Snapshot, trouble);
        }
        if self.timers.audit <= now {
            self.timers.audit = now + AUDIT;
            self.audit();
        }
        if self.timers.retry.is_some_and(|at| at <= now) {
            self.timers.retry = None;
            self.plan_is_new = true;
        }
        Ok(())
    }

    /// DELs that waited in the spool.
    fn play_back(&mut self) -> Result<(), Killed> {
        if self.addresses.is_none() || self.kernel.is_none() {
            return Ok(());
        }
        let super::spool::Waiting { requests, troubles } = self.spool.take();
        for trouble in troubles {
            self.event(true, "SpoolUnreadable", trouble);
        }
        let del = |(file, attachment)| Del {
            attachment,
            reply: None,
            file: Some(file),
        };
        self.detach(requests.into_iter().map(del).collect())
    }

    fn end_cool_downs(&mut self) {
        let Some(addresses) = &mut self.addresses else {
            return;
        };
        let before = addresses.state().cooling.len();
        if let Err(error) = addresses.expire() {
            let sentence = super::report::chain(&error);
            self.troubles.set(Trouble::Disk, Some(sentence));
            return;
        }
        self.retry_waiting |= addresses.state().cooling.len() != before && !self.waiting.is_empty();
    }

    /// Makes the kernel what the plan says, as far as it lets us.
    pub(super) fn commit(&mut self) -> Failures {
        let (Some(kernel), Some(compiled)) = (&mut self.kernel, &self.compiled) else {
            return Failures::default();
        };
        let failures = kernel.commit(compiled.plan());
        self.plan_is_new = false;
        let joined = |sentences: &[String]| (!sentences.is_empty()).then(|| sentences.join("; "));
        self.troubles.set(Trouble::Net, joined(&failures.net));
        self.troubles.set(Trouble::Table, failures.table.clone());
        self.troubles
            .set(Trouble::Sysctls, joined(&failures.sysctls));
        if !failures.is_empty() {
            self.timers.retry = Some(Instant::now() + RETRY);
        }
        if failures.table.is_none() && !self.view_is_old {
            self.in_force = self
                .cluster
                .as_ref()
                .and_then(|cluster| Some(cluster.network.as_ref()?.1));
            if !self.ready {
                self.ready = true;
                self.was_ready = true;
                self.retry_waiting = true;
                self.timers.spool = Instant::now();
                self.timers.audit = Instant::now() + FIRST_AUDIT;
                self.tell(Output::Ready);
            }
        }
        failures
    }

    pub(super) fn tell(&mut self, output: Output) {
        self.told.is_old = true;
        // Nobody listens: then the process is ending.
        let _ = self.out.send(output);
    }

    pub(super) fn event(&mut self, warning: bool, reason: &'static str, message: String) {
        self.tell(Output::Event {
            warning,
            reason,
            message,
        });
    }

    /// The node's own interfaces may be different; several changes of one moment go together.
    pub(super) fn look_at_host_soon(&mut self) {
        self.host_changed = true;
        self.timers.host = self.timers.host.min(Instant::now() + HOST_SOON);
    }

    /// The next report may be made after this.
    pub(super) fn reported(&mut self, now: Instant) {
        self.timers.report = now + REPORT;
    }

    /// Says what this kernel lacks.
    pub(super) fn announce_kernel(&mut self) {
        let unprotected = self
            .kernel
            .as_ref()
            .is_some_and(|kernel| !kernel.flags.owner);
        let sentence = "this kernel has no owned nf_tables tables (Linux 6.9), so others can change or flush table inet weftnet; it is put right within a second";
        self.troubles.set(
            Trouble::Unprotected,
            unprotected.then(|| sentence.to_owned()),
        );
    }
}
