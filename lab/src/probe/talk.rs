//! One connection that goes on for ever: each end says something every few milliseconds, or keeps
//! silent, and says how much it has heard.
//!
//! What policies do to established connections is seen by it: packets that do not come are not heard,
//! whatever the other end believes.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Error;

/// Between two words.
const PAUSE: Duration = Duration::from_millis(20);

/// Which end.
#[derive(clap::Subcommand, Debug)]
pub enum Role {
    /// Wait for the other end. Over TCP, talk first.
    Listen {
        /// The port.
        #[arg(long)]
        port: u16,
        /// How to talk.
        #[command(flatten)]
        manner: Manner,
    },
    /// Begin.
    Call {
        /// Where the other end waits.
        to: SocketAddr,
        /// How to talk.
        #[command(flatten)]
        manner: Manner,
    },
}

/// How to talk.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Manner {
    /// Over what.
    #[arg(long, value_enum, default_value_t = Transport::Tcp)]
    pub protocol: Transport,
    /// Say nothing, once the connection is there.
    #[arg(long)]
    pub silent: bool,
}

/// Over what to talk.
#[derive(
    clap::ValueEnum,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// What an end says of itself: a line at the beginning, and whenever it has heard more.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Bytes.
    pub bytes: u64,
}

enum Wire {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

/// Talks until it is killed.
///
/// # Errors
/// When the connection cannot be made.
pub fn run(role: &Role) -> Result<bool, Error> {
    match role {
        Role::Listen { port, manner } => {
            let at = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), *port);
            let wire = listen(at, manner.protocol).map_err(Error::io(format!("listen at {at}")))?;
            converse(wire, manner.silent)
        }
        Role::Call { to, manner } => {
            let wire = call(*to, manner.protocol).map_err(Error::io(format!("call {to}")))?;
            super::print(&Heard::default());
            converse(wire, manner.silent)
        }
    }
}

fn listen(at: SocketAddr, protocol: Transport) -> std::io::Result<Wire> {
    match protocol {
        Transport::Tcp => {
            let listener = TcpListener::bind(at)?;
            super::print(&Heard::default());
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            Ok(Wire::Tcp(stream))
        }
        Transport::Udp => {
            let socket = UdpSocket::bind(at)?;
            super::print(&Heard::default());
            let (_, from) = socket.recv_from(&mut [0; 16])?;
            socket.connect(from)?;
            Ok(Wire::Udp(socket))
        }
    }
}

fn call(to: SocketAddr, protocol: Transport) -> std::io::Result<Wire> {
    match protocol {
        Transport::Tcp => {
            let stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
            stream.set_nodelay(true)?;
            Ok(Wire::Tcp(stream))
        }
        Transport::Udp => {
            let any = match to {
                SocketAddr::V4(_) => "0.0.0.0:0",
                SocketAddr::V6(_) => "[::]:0",
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            socket.send(b"hello")?;
            Ok(Wire::Udp(socket))
        }
    }
}

fn converse(wire: Wire, silent: bool) -> ! {
    let wire = Arc::new(wire);
    let heard = Arc::new(AtomicU64::new(0));
    let (ear, bytes) = (wire.clone(), heard.clone());
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        loop {
            match ear.receive(&mut buffer) {
                // Refusals of datagrams come as errors, and may be over in a moment.
                Ok(0) | Err(_) => std::thread::sleep(PAUSE),
                Ok(count) => drop(bytes.fetch_add(count as u64, Ordering::Relaxed)),
            }
        }
    });
    let mut told = 0;
    loop {
        if !silent {
            let _ = wire.send(b"weft");
        }
        let bytes = heard.load(Ordering::Relaxed);
        if bytes != told {
            told = bytes;
            super::print(&Heard { bytes });
        }
        std::thread::sleep(PAUSE);
    }
}

impl Wire {
    fn send(&self, word: &[u8]) -> std::io::Result<()> {
        match self {
            // A full buffer must not keep this end from telling what it hears.
            Self::Tcp(stream) => {
                stream.set_write_timeout(Some(PAUSE))?;
                (&mut &*stream).write(word).map(drop)
            }
            Self::Udp(socket) => socket.send(word).map(drop),
        }
    }

    fn receive(&self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&mut &*stream).read(buffer),
            Self::Udp(socket) => socket.recv(buffer),
        }
    }
}
