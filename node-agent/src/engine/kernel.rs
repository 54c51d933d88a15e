//! The engine's hands: sockets into the node's namespace, and a model of what has been committed
//! through them, so that an update lists nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use weft_core::plan::{LinkName, NetState, NodePlan};
use weft_core::view::HostView;
use weft_core::{names, policy, services};
use weft_kernel::monitor::Monitor;
use weft_kernel::netlink::Socket;
use weft_kernel::nft::NftSocket;
use weft_kernel::pod::{self, Wired, Wiring};
use weft_kernel::{host, net, netlink, nft};
use weft_nft::TableFlags;

use super::services::Effort;

/// Values that sysctls of the host had before we wrote them, below the state directory.
pub(super) const SYSCTLS_BEFORE: &str = "sysctls.json";

/// Sockets, and what is known to be in the kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) rtnl: Socket,
    pub(super) nft: NftSocket,
    pub(super) monitor: Monitor,
    namespace: OwnedFd,
    pub(super) sysctl_dir: PathBuf,
    state_dir: PathBuf,
    /// Flags of tables that this kernel knows.
    pub(super) flags: TableFlags,
    /// What is committed, of which links, routes and the table are known only where the flags say so.
    pub(super) have: NodePlan,
    pub(super) net_known: bool,
    pub(super) table_known: bool,
    /// How often the table was read, without the elements that this does not keep.
    pub(super) reads: u64,
    /// Values that were there before ours.
    before: BTreeMap<String, String>,
}

/// The kernel cannot be reached at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum KernelError {
    /// rtnetlink.
    #[error("failed to use rtnetlink: {0}")]
    Netlink(#[from] netlink::Error),
    /// nf_tables.
    #[error("failed to use nf_tables: {0}")]
    Nft(#[from] nft::Error),
    /// The node's own network namespace.
    #[error("failed to open the node's network namespace: {0}")]
    Namespace(#[source] io::Error),
    /// Somebody else's socket owns our table.
    #[error("table inet {table} belongs to netlink port {port}, not to this agent: end the process that holds it, or use weft-agent unlock there", table = names::TABLE)]
    Owned {
        /// Port of the socket that owns it.
        port: u32,
    },
}

impl Kernel {
    /// Opens sockets in the calling thread's network namespace.
    pub(super) fn open(
        nft_socket: OwnedFd,
        sysctl_dir: PathBuf,
        state_dir: PathBuf,
    ) -> Result<Self, KernelError> {
        let mut nft = NftSocket::from_fd(nft_socket)?;
        let flags = nft.supported_flags()?;
        let before = fs::read(state_dir.join(SYSCTLS_BEFORE))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let mut rtnl = Socket::open()?;
        // Where the table has an owner, nobody else can change it.
        let table = if flags.owner {
            None
        } else {
            Some(names::TABLE)
        };
        let mut monitor = Monitor::open(&mut rtnl, table)?;
        monitor.ignore(rtnl.port()?);
        monitor.ignore(nft.port()?);
        Ok(Self {
            rtnl,
            nft,
            monitor,
            namespace: pod::own_namespace().map_err(KernelError::Namespace)?,
            sysctl_dir,
            state_dir,
            flags,
            have: NodePlan::default(),
            net_known: false,
            table_known: false,
            reads: 0,
            before,
        })
    }

    /// What the node itself is like.
    pub(super) fn host(&mut self) -> Result<HostView, KernelError> {
        Ok(host::observe(&mut self.rtnl, &self.sysctl_dir)?)
    }

    /// Makes the model true again where it is in doubt.
    pub(super) fn learn(&mut self) -> Result<(), KernelError> {
        if !self.net_known {
            self.have.net = net::observe(&mut self.rtnl)?;
            self.have.sysctls.clear();
            self.net_known = true;
        }
        if !self.table_known {
            let found = self.read_table()?;
            let own = self.nft.port()?;
            if let Some(port) = found.owner_port.filter(|port| *port != own) {
                return Err(KernelError::Owned { port });
            }
            self.have.table = found.table;
            self.table_known = true;
            self.reads += 1;
        }
        Ok(())
    }

    /// Our table, without the elements of the large maps of Services and policies.
    pub(super) fn read_table(&mut self) -> Result<nft::Found, nft::Error> {
        self.nft.read_table_without(names::TABLE, |set| {
            services::Bulk::of(set).is_some() || policy::Bulk::of(set).is_some()
        })
    }

    /// Gives a pod its interface.
    pub(super) fn wire(
        &mut self,
        pod_netlink: OwnedFd,
        wiring: &Wiring,
    ) -> Result<Wired, pod::Error> {
        let mut inside = Socket::from_fd(pod_netlink).map_err(pod::Error::Pod)?;
        let wired = pod::wire(&mut self.rtnl, &mut inside, &self.namespace, wiring)?;
        if wired.created {
            self.forget_link(&wiring.host_link);
        }
        Ok(wired)
    }

    /// Takes pods' interfaces away.
    pub(super) fn unwire(&mut self, host_links: &[LinkName]) -> Result<(), pod::Error> {
        pod::unwire_all(&mut self.rtnl, host_links)?;
        host_links.iter().for_each(|link| self.forget_link(link));
        Ok(())
    }

    /// What differs between a pod's interface and what it should be.
    pub(super) fn verify(
        &mut self,
        pod_netlink: OwnedFd,
        wiring: &Wiring,
    ) -> Result<Vec<String>, pod::Error> {
        let mut inside = Socket::from_fd(pod_netlink).map_err(pod::Error::Pod)?;
        pod::verify(&mut self.rtnl, &mut inside, wiring)
    }

    /// The kernel took everything along that was on this link.
    pub(super) fn forget_link(&mut self, link: &str) {
        forget(&mut self.have.net, link);
        let on_it = |path: &str| path.split('/').nth(2) == Some(link);
        self.have.sysctls.retain(|path, _| !on_it(path));
    }

    /// Totals for the counters: transactions and dumps.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.nft.commits(), self.rtnl.dumps() + self.nft.dumps())
    }

    /// What updates have cost so far.
    pub(super) fn effort(&self) -> Effort {
        Effort {
            transactions: self.nft.commits(),
            messages: self.nft.messages(),
            dumps: self.rtnl.dumps() + self.nft.dumps(),
        }
    }

    /// Keeps the value that a sysctl of the host has, so that cleanup can put it back. Values of our
    /// own links go with them.
    pub(super) fn keep_before(&mut self, path: &str, value: &str) -> io::Result<()> {
        let ours = path
            .split('/')
            .nth(2)
            .is_some_and(|link| names::recognise(link).is_some());
        if ours || self.before.contains_key(path) {
            return Ok(());
        }
        self.before.insert(path.to_owned(), value.to_owned());
        write_whole(
            &self.state_dir,
            SYSCTLS_BEFORE,
            &serde_json::to_vec(&self.before)?,
        )
    }
}

/// Puts a whole file into place: after a crash it is the old one or the new one.
pub(super) fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!("{name}.new"));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    fs::File::open(folder)?.sync_all()
}

fn forget(net: &mut NetState, link: &str) {
    let NetState {
        vxlans,
        pod_links,
        addresses,
        neighbours,
        forwarding,
        routes,
    } = net;
    vxlans.remove(link);
    pod_links.remove(link);
    addresses.retain(|address| address.link != link);
    neighbours.retain(|(on, _), _| on != link);
    forwarding.retain(|(on, _), _| on != link);
    routes.retain(|_, route| match route {
        weft_core::plan::Route::Unicast { link: by, .. } => by != link,
        weft_core::plan::Route::Unreachable | weft_core::plan::Route::Local { .. } => true,
    });
}
