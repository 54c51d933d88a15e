//! Asks a server one question, and prints what it says, as `dig` would in short.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::Context;
use hickory_proto::op::Message;
use weft_core::zones::name::Name;
use weft_core::zones::record::RecordType;

use crate::settings::QuerySettings;

/// Asks and prints.
///
/// # Errors
/// A name or type that is none, and no answer.
pub fn run(settings: &QuerySettings) -> anyhow::Result<()> {
    let name = Name::absolute(&settings.name)
        .with_context(|| format!("{:?} is no name", settings.name))?;
    let kind = RecordType::parse(&settings.kind)
        .with_context(|| format!("{:?} is no type", settings.kind))?;
    let mut packet = vec![0x57, 0x46, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    packet.extend_from_slice(name.wire());
    packet.extend_from_slice(&kind.0.to_be_bytes());
    packet.extend_from_slice(&[0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    let begin = Instant::now();
    let answer = if settings.tcp {
        stream(settings, &packet)
    } else {
        datagram(settings, &packet)
    };
    let answer = answer.with_context(|| format!("no answer from {}", settings.server))?;
    let message = Message::from_vec(&answer).context("the answer cannot be read")?;
    print(&message, answer.len(), begin.elapsed());
    Ok(())
}

fn datagram(settings: &QuerySettings, packet: &[u8]) -> std::io::Result<Vec<u8>> {
    let any = if settings.server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(Duration::from_secs(settings.timeout.max(1))))?;
    socket.connect(settings.server)?;
    socket.send(packet)?;
    let mut answer = vec![0; 65_535];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

fn stream(settings: &QuerySettings, packet: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Write};
    let patience = Duration::from_secs(settings.timeout.max(1));
    let mut stream = std::net::TcpStream::connect_timeout(&settings.server, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let length = u16::try_from(packet.len()).unwrap_or_default();
    stream.write_all(&[&length.to_be_bytes(), packet].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

fn print(message: &Message, length: usize, time: Duration) {
    let flags = [
        (message.metadata.authoritative, " aa"),
        (message.metadata.truncation, " tc"),
        (message.metadata.recursion_available, " ra"),
    ];
    let flags: String = flags
        .iter()
        .filter(|(set, _)| *set)
        .map(|(_, text)| *text)
        .collect();
    println!(
        "; {}{flags}, {length} bytes in {time:?}",
        message.metadata.response_code
    );
    let sections = [
        ("answer", &message.answers),
        ("authority", &message.authorities),
        ("additional", &message.additionals),
    ];
    for (name, records) in sections
        .into_iter()
        .filter(|(_, records)| !records.is_empty())
    {
        println!("; {name}");
        for record in records {
            println!("{record}");
        }
    }
}
