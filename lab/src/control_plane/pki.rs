//! Keys, certificates and tokens of a lab, made anew for each.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::address::MAX_NODES;

/// The user that may do everything.
pub const ADMIN: &str = "admin";
/// Kubeconfig files of the control plane and the user each is for.
pub const USERS: [(&str, &str); 4] = [
    ("admin", ADMIN),
    ("controller-manager", "system:kube-controller-manager"),
    ("scheduler", "system:kube-scheduler"),
    ("proxy", "system:kube-proxy"),
];
const SERVICE_ADDRESSES: [&str; 2] = ["10.96.0.1", "fd96::1"];

/// The certificates and keys of one lab, PEM, by file name.
pub struct Pki {
    files: BTreeMap<&'static str, String>,
}

impl Pki {
    /// Makes them. `addresses` are the API server's own.
    pub fn generate(addresses: &[IpAddr]) -> Result<Self> {
        let mut files = BTreeMap::new();
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "weft-lab");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        files.insert("ca.crt", params.self_signed(&key)?.pem());
        files.insert("ca.key", key.serialize_pem());
        let issuer = Issuer::new(params, key);

        let mut server = leaf("kube-apiserver", None, ExtendedKeyUsagePurpose::ServerAuth);
        server.subject_alt_names = api_server_names(addresses)?;
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        let kubelet = leaf(
            "kube-apiserver-kubelet-client",
            Some("system:masters"),
            client.clone(),
        );
        let front_proxy = leaf("front-proxy-client", None, client);
        let leaves = [
            ("apiserver.crt", "apiserver.key", server),
            ("kubelet-client.crt", "kubelet-client.key", kubelet),
            ("front-proxy.crt", "front-proxy.key", front_proxy),
        ];
        for (crt, key_file, params) in leaves {
            let key = KeyPair::generate()?;
            files.insert(crt, params.signed_by(&key, &issuer)?.pem());
            files.insert(key_file, key.serialize_pem());
        }
        let accounts = KeyPair::generate()?;
        files.insert("sa.key", accounts.serialize_pem());
        files.insert("sa.pub", accounts.public_key_pem());
        Ok(Self { files })
    }

    /// File names and contents.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.files.iter().map(|(name, text)| (*name, text.as_str()))
    }

    /// The authority's certificate.
    pub fn ca(&self) -> &str {
        self.files.get("ca.crt").map_or("", String::as_str)
    }
}

/// Bearer tokens by user.
pub struct Tokens {
    by_user: BTreeMap<String, String>,
}

impl Tokens {
    /// A token for each user of the control plane and for each node that a lab could have.
    pub fn generate() -> Result<Self> {
        let nodes = (1..=MAX_NODES).map(|number| format!("system:node:node-{number}"));
        let users = USERS.iter().map(|(_, user)| (*user).to_owned());
        let mut random = File::open("/dev/urandom").context("failed to open /dev/urandom")?;
        let mut by_user = BTreeMap::new();
        for user in users.chain(nodes) {
            let mut bytes = [0u8; 16];
            random.read_exact(&mut bytes)?;
            let token: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            by_user.insert(user, token);
        }
        Ok(Self { by_user })
    }

    /// The token of a user; empty for one that has none.
    pub fn of(&self, user: &str) -> &str {
        self.by_user.get(user).map_or("", String::as_str)
    }

    /// Node names and their tokens.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.by_user.iter().filter_map(|(user, token)| {
            let name = user.strip_prefix("system:node:")?;
            Some((name, token.as_str()))
        })
    }

    /// The file that the API server reads: token, user, uid, group.
    pub fn csv(&self) -> String {
        let line = |(user, token): (&String, &String)| {
            let group = match user.as_str() {
                ADMIN => ",system:masters",
                node if node.starts_with("system:node:") => ",system:nodes",
                _ => "",
            };
            format!("{token},{user},{user}{group}\n")
        };
        self.by_user.iter().map(line).collect()
    }
}

/// The token of a user in such a file.
pub fn token_in_csv(csv: &str, user: &str) -> Option<String> {
    csv.lines().find_map(|line| {
        let mut fields = line.split(',');
        let token = fields.next()?;
        (fields.next()? == user).then(|| token.to_owned())
    })
}

fn leaf(name: &str, group: Option<&str>, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
    }
    params.extended_key_usages = vec![usage];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

fn api_server_names(addresses: &[IpAddr]) -> Result<Vec<SanType>> {
    let mut names = Vec::new();
    for name in [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ] {
        names.push(SanType::DnsName(name.try_into()?));
    }
    for address in SERVICE_ADDRESSES {
        names.push(SanType::IpAddress(address.parse()?));
    }
    names.push(SanType::IpAddress(IpAddr::V4(
        std::net::Ipv4Addr::LOCALHOST,
    )));
    names.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_that_could_join_has_a_token_of_its_own() {
        let tokens = Tokens::generate().unwrap();
        let of_nodes: Vec<&str> = tokens.nodes().map(|(_, token)| token).collect();
        assert_eq!(of_nodes.len(), usize::from(MAX_NODES));
        let different: std::collections::BTreeSet<_> = of_nodes.iter().collect();
        assert_eq!(different.len(), of_nodes.len());
        let csv = tokens.csv();
        assert_eq!(token_in_csv(&csv, ADMIN).as_deref(), Some(tokens.of(ADMIN)));
        assert!(csv.contains("system:node:node-7,system:node:node-7,system:nodes\n"));
        assert_eq!(token_in_csv(&csv, "nobody"), None);
    }

    #[test]
    fn the_files_that_the_control_plane_is_started_with_are_made() {
        let pki = Pki::generate(&["10.50.0.2".parse().unwrap()]).unwrap();
        let names: Vec<_> = pki.files().map(|(name, _)| name).collect();
        for name in [
            "ca.crt",
            "ca.key",
            "apiserver.crt",
            "kubelet-client.key",
            "sa.pub",
        ] {
            assert!(names.contains(&name), "{name} is missing");
        }
        assert!(pki.ca().starts_with("-----BEGIN CERTIFICATE-----"));
    }
}
