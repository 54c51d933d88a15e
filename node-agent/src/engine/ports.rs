//! Host ports: from the capability `portMappings` to checked values, and who has them already.

use std::net::IpAddr;

use weft_cni::wire::PortMapping;
use weft_core::view::{AttachmentKey, HostPort, Protocol};

use crate::record::{Assignment, RecordedPort, State};

/// A mapping that cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PortError {
    /// A field has a value that means nothing.
    #[error("portMappings: {field} is {value:?}; write {remedy}")]
    Invalid {
        field: &'static str,
        value: String,
        remedy: &'static str,
    },
    /// Somebody else has the port.
    #[error(
        "host port {port} ({protocol}) belongs to pod {pod} on this node; give one of the two another hostPort or hostIP"
    )]
    Taken {
        port: u16,
        protocol: String,
        pod: String,
    },
}

/// Checks what a pod asks for.
pub(super) fn wanted(mappings: &[PortMapping]) -> Result<Vec<RecordedPort>, PortError> {
    mappings
        .iter()
        .filter(|mapping| mapping.host_port != 0)
        .map(one)
        .collect()
}

/// Whether another pod of this node, in the record or about to be, has one of the ports.
pub(super) fn free<'a>(
    ports: &[RecordedPort],
    key: &AttachmentKey,
    others: impl Iterator<Item = &'a Assignment>,
) -> Result<(), PortError> {
    if ports.is_empty() {
        return Ok(());
    }
    for other in others.filter(|other| other.key() != *key) {
        let shared = ports
            .iter()
            .find(|port| other.host_ports.iter().any(|theirs| collide(port, theirs)));
        if let Some(port) = shared {
            return Err(PortError::Taken {
                port: port.host_port,
                protocol: port.protocol.clone(),
                pod: format!("{}/{}", other.namespace, other.name),
            });
        }
    }
    Ok(())
}

/// The record's form as the plan's.
pub(super) fn planned(ports: &[RecordedPort]) -> Vec<HostPort> {
    let planned = |port: &RecordedPort| HostPort {
        host_port: port.host_port,
        host_ip: port.host_ip,
        container_port: port.container_port,
        protocol: match port.protocol.as_str() {
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => Protocol::Tcp,
        },
    };
    ports.iter().map(planned).collect()
}

/// All assignments of a record, for [`free`].
pub(super) fn holders(state: &State) -> impl Iterator<Item = &Assignment> {
    state
        .assignments
        .values()
        .filter(|assignment| !assignment.host_ports.is_empty())
}

fn one(mapping: &PortMapping) -> Result<RecordedPort, PortError> {
    let PortMapping {
        host_port,
        container_port,
        protocol,
        host_ip,
    } = mapping;
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(PortError::Invalid {
            field: "protocol",
            value: protocol,
            remedy: "tcp, udp or sctp",
        });
    }
    if *container_port == 0 {
        return Err(PortError::Invalid {
            field: "containerPort",
            value: "0".to_owned(),
            remedy: "1 to 65535",
        });
    }
    let address = match host_ip.as_str() {
        "" => None,
        text => match text.parse::<IpAddr>() {
            Ok(address) if address.is_unspecified() => None,
            Ok(address) => Some(address),
            Err(_) => {
                let (value, remedy) = (text.to_owned(), "an IP address or nothing");
                return Err(PortError::Invalid {
                    field: "hostIP",
                    value,
                    remedy,
                });
            }
        },
    };
    Ok(RecordedPort {
        host_port: *host_port,
        host_ip: address,
        container_port: *container_port,
        protocol,
    })
}

fn collide(a: &RecordedPort, b: &RecordedPort) -> bool {
    let addresses_meet = match (a.host_ip, b.host_ip) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    a.host_port == b.host_port && a.protocol == b.protocol && addresses_meet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(host_port: u16, protocol: &str, host_ip: &str) -> PortMapping {
        PortMapping {
            host_port,
            container_port: 80,
            protocol: protocol.to_owned(),
            host_ip: host_ip.to_owned(),
        }
    }

    #[test]
    fn ports_collide_where_a_packet_could_be_meant_for_both() {
        let rows = [
            (mapping(80, "tcp", ""), mapping(80, "TCP", ""), true),
            (
                mapping(80, "tcp", "192.0.2.1"),
                mapping(80, "tcp", ""),
                true,
            ),
            (
                mapping(80, "tcp", "192.0.2.1"),
                mapping(80, "tcp", "0.0.0.0"),
                true,
            ),
            (
                mapping(80, "tcp", "192.0.2.1"),
                mapping(80, "tcp", "192.0.2.2"),
                false,
            ),
            (mapping(80, "tcp", ""), mapping(80, "udp", ""), false),
            (mapping(80, "tcp", ""), mapping(81, "tcp", ""), false),
        ];
        for (a, b, wanted_collision) in rows {
            let (a, b) = (one(&a).unwrap(), one(&b).unwrap());
            assert_eq!(collide(&a, &b), wanted_collision, "{a:?} {b:?}");
            assert_eq!(collide(&b, &a), wanted_collision, "{b:?} {a:?}");
        }
    }

    #[test]
    fn wrong_mappings_name_the_field() {
        for (mapping, field) in [
            (mapping(80, "icmp", ""), "protocol"),
            (mapping(80, "tcp", "host"), "hostIP"),
            (
                PortMapping {
                    container_port: 0,
                    ..mapping(80, "tcp", "")
                },
                "containerPort",
            ),
        ] {
            assert!(wanted(&[mapping]).unwrap_err().to_string().contains(field));
        }
        assert_eq!(wanted(&[mapping(0, "tcp", "")]), Ok(vec![]));
    }
}
