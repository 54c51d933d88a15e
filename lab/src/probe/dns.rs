//! One DNS question over UDP or TCP (RFC 1035), written and read here, so that no resolver of the C library
//! and no cache stands between the question and what is shown.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Error;

/// What to ask, and whom.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The name, taken as it is: no search list.
    pub name: String,
    /// The server, with a port where it is not 53.
    #[arg(long, value_parser = server)]
    pub server: SocketAddr,
    /// A, AAAA, PTR or SRV.
    #[arg(long = "type", value_enum, default_value_t = Kind::A)]
    pub kind: Kind,
    /// How long to wait for the answer.
    #[arg(long, default_value = "2s", value_parser = super::duration)]
    pub timeout: Duration,
    /// Over TCP.
    #[arg(long)]
    pub tcp: bool,
}

/// The type of record.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    #[value(name = "A")]
    A,
    /// IPv6 addresses.
    #[value(name = "AAAA")]
    Aaaa,
    /// The name of an address.
    #[value(name = "PTR")]
    Ptr,
    /// Ports and hosts of a service.
    #[value(name = "SRV")]
    Srv,
}

/// What came back.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Resolved {
    /// `NOERROR`, `NXDOMAIN`, …; empty when nothing came.
    pub rcode: String,
    /// Addresses in the answer section, of the type asked for.
    pub addresses: Vec<IpAddr>,
    /// Records of the answer section of the type asked for, as text.
    #[serde(default)]
    pub records: Vec<String>,
    /// Microseconds until the answer or the failure.
    pub microseconds: u64,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

fn server(text: &str) -> Result<SocketAddr, String> {
    let address = text
        .parse::<IpAddr>()
        .map(|address| SocketAddr::new(address, 53));
    address.or_else(|_| text.parse()).map_err(|_| {
        format!("{text:?} is no address of a server: write for example 10.96.0.10 or [fd00::a]:53")
    })
}

/// Asks once and prints the outcome; false without an address.
///
/// # Errors
/// When the name cannot be put into a question.
pub fn run(args: &Args) -> Result<bool, Error> {
    let id = u16::try_from(super::now_ns() & 0xffff).unwrap_or(0);
    let question = question(id, &args.name, args.kind).ok_or_else(|| {
        Error::Argument(format!(
            "{:?} is no DNS name: labels have 1 to 63 bytes, all of it 253",
            args.name
        ))
    })?;
    let start = Instant::now();
    let answer = exchange(args.server, args.tcp, args.timeout, &question);
    let mut resolved = outcome(answer, id, args.kind);
    resolved.microseconds = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    super::print(&resolved);
    Ok(!resolved.records.is_empty())
}

/// What an exchange has led to.
pub(super) fn outcome(answer: std::io::Result<Vec<u8>>, id: u16, kind: Kind) -> Resolved {
    match answer {
        Ok(answer) => read(&answer, id, kind).unwrap_or_else(|| Resolved {
            error: Some("the answer is malformed".to_owned()),
            ..Resolved::default()
        }),
        Err(error) => Resolved {
            error: Some(error.to_string()),
            ..Resolved::default()
        },
    }
}

/// Sends a question and waits for what comes back.
pub(super) fn exchange(
    server: SocketAddr,
    tcp: bool,
    timeout: Duration,
    question: &[u8],
) -> std::io::Result<Vec<u8>> {
    if tcp {
        return over_tcp(server, timeout, question);
    }
    let any = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.send(question)?;
    let mut buffer = vec![0; 4096];
    let length = socket.recv(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn over_tcp(server: SocketAddr, timeout: Duration, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let length = u16::try_from(question.len()).unwrap_or(u16::MAX);
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut buffer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut buffer)?;
    Ok(buffer)
}

fn code(kind: Kind) -> u16 {
    match kind {
        Kind::A => 1,
        Kind::Aaaa => 28,
        Kind::Ptr => 12,
        Kind::Srv => 33,
    }
}

/// A question as it is sent; none for what is no name.
pub(super) fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut bytes = id.to_be_bytes().to_vec();
    // Recursion desired, one question.
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..=63).contains(length))?;
        bytes.push(length);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(code(kind).to_be_bytes());
    bytes.extend([0, 1]);
    (name.len() <= 253).then_some(bytes)
}

fn read(bytes: &[u8], id: u16, kind: Kind) -> Option<Resolved> {
    let word = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    if word(0)? != id || word(2)? & 0x8000 == 0 {
        return None;
    }
    let mut at = 12;
    for _ in 0..word(4)? {
        at = skip_name(bytes, at)? + 4;
    }
    let (mut addresses, mut records) = (Vec::new(), Vec::new());
    for _ in 0..word(6)? {
        at = skip_name(bytes, at)?;
        let (found, length) = (word(at)?, usize::from(word(at + 8)?));
        let data = bytes.get(at + 10..at + 10 + length)?;
        if found == code(kind) {
            addresses.extend(address(data).filter(|_| matches!(kind, Kind::A | Kind::Aaaa)));
            records.push(match kind {
                Kind::A | Kind::Aaaa => address(data)?.to_string(),
                Kind::Ptr => name_at(bytes, at + 10)?,
                Kind::Srv => {
                    let numbers = [word(at + 10)?, word(at + 12)?, word(at + 14)?];
                    let [priority, weight, port] = numbers;
                    let target = name_at(bytes, at + 16)?;
                    format!("{priority} {weight} {port} {target}")
                }
            });
        }
        at += 10 + length;
    }
    Some(Resolved {
        rcode: rcode(word(2)? & 0xf),
        addresses,
        records,
        ..Resolved::default()
    })
}

fn address(data: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(data).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    v4.or_else(|_| <[u8; 16]>::try_from(data).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))))
        .ok()
}

/// A name as text, with a dot at its end.
fn name_at(bytes: &[u8], mut at: usize) -> Option<String> {
    let mut text = String::new();
    // More labels than a name can have: pointers in a circle.
    for _ in 0..128 {
        match *bytes.get(at)? {
            0 if text.is_empty() => return Some(".".to_owned()),
            0 => return Some(text),
            pointer if pointer & 0xc0 == 0xc0 => {
                at = usize::from(u16::from_be_bytes([pointer & 0x3f, *bytes.get(at + 1)?]));
            }
            length => {
                let label = bytes.get(at + 1..at + 1 + usize::from(length))?;
                text += &String::from_utf8_lossy(label);
                text.push('.');
                at += 1 + usize::from(length);
            }
        }
    }
    None
}

/// The position behind a name that may end in a pointer.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

fn rcode(number: u16) -> String {
    let known = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED",
    ];
    known
        .get(usize::from(number))
        .map_or_else(|| format!("RCODE{number}"), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_a_compressed_name_is_read() {
        let mut bytes = question(7, "a.example.", Kind::A).unwrap();
        bytes[2] = 0x81;
        bytes[7] = 1;
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 192, 0, 2, 1]);
        let resolved = read(&bytes, 7, Kind::A).unwrap();
        assert_eq!(resolved.rcode, "NOERROR");
        assert_eq!(resolved.addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(read(&bytes, 8, Kind::A), None);
        assert_eq!(read(&bytes[..bytes.len() - 1], 7, Kind::A), None);
    }

    #[test]
    fn names_in_answers_are_read_and_circles_are_none() {
        let mut bytes = question(7, "a.example.", Kind::Ptr).unwrap();
        bytes[2] = 0x81;
        bytes[7] = 1;
        bytes.extend([0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 5, 0, 4, 1, b'b', 0xc0, 14]);
        let resolved = read(&bytes, 7, Kind::Ptr).unwrap();
        assert_eq!(resolved.records, ["b.example."]);
        assert!(resolved.addresses.is_empty());
        let at = bytes.len() - 2;
        bytes[at + 1] = u8::try_from(at - 2).unwrap();
        assert_eq!(read(&bytes, 7, Kind::Ptr), None);
    }

    #[test]
    fn a_name_that_cannot_be_asked_is_refused() {
        assert!(question(1, "a..b", Kind::A).is_none());
        assert!(question(1, &"a".repeat(64), Kind::A).is_none());
        assert!(question(1, "kubernetes.default.svc.cluster.local", Kind::Aaaa).is_some());
    }
}
