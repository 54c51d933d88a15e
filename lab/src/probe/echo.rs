//! Sends datagrams back as they come, with the sockets of the DNS server: one for each core. What a benchmark takes for
//! the kernel's own share.

use std::net::SocketAddr;

use super::Error;

/// Where.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Address and port.
    pub at: SocketAddr,
}

/// Serves until it is killed.
///
/// # Errors
/// When the port cannot be had.
pub fn run(args: &Args) -> Result<(), Error> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut threads = Vec::new();
    for _ in 0..cores {
        let what = || format!("listen on {}", args.at);
        let socket = weft_dns::server::socket::udp(args.at).map_err(Error::io(what()))?;
        threads.push(std::thread::spawn(move || {
            let mut datagram = [0; 1500];
            loop {
                // An error is an ICMP message about a client that is gone.
                if let Ok((length, client)) = socket.recv_from(&mut datagram) {
                    let _ = socket.send_to(&datagram[..length], client);
                }
            }
        }));
    }
    for thread in threads {
        let _ = thread.join();
    }
    Ok(())
}
