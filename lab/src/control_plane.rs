//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler in a place of their own.
//!
//! One of each, without TLS between API server and etcd: what is tested is the network of the nodes.
//! Identities are tokens of a file, which the API server reads once at its start; so there are tokens
//! for as many nodes as a lab may ever have.

pub mod pki;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::address::{self, Families};
use crate::paths::Paths;
use crate::place::Daemon;
use crate::state::LabState;

/// The control plane's place.
pub const PLACE: &str = "control-plane";
/// The API server's port.
pub const API_PORT: u16 = 6443;

/// The API server's URL, as nodes reach it.
pub fn server_url(state: &LabState) -> String {
    format!("https://{}", api_server_address(state))
}

/// `host:port` of the API server, as nodes reach it.
pub fn api_server_address(state: &LabState) -> String {
    std::net::SocketAddr::new(state.plan().control_plane().first(), API_PORT).to_string()
}

/// etcd, whose data is on disk in the lab's folder and is never synced: it lives as long as the lab.
pub fn etcd(state: &LabState, paths: &Paths) -> Daemon {
    let data = paths.place(PLACE).join("etcd");
    daemon(
        "etcd",
        state.programs.path("etcd"),
        vec![
            format!("--data-dir={}", data.display()),
            "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
            "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
            "--quota-backend-bytes=4294967296".to_owned(),
        ],
    )
}

/// The API server.
pub fn api_server(state: &LabState, paths: &Paths) -> Daemon {
    let pki = |file: &str| paths.pki().join(file).display().to_string();
    let advertise = state.plan().control_plane().first();
    let bind = match state.options.families {
        Families::Ipv4 => "0.0.0.0",
        Families::Ipv6 | Families::Dual => "::",
    };
    let arguments = vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--secure-port={API_PORT}"),
        format!("--bind-address={bind}"),
        format!("--advertise-address={advertise}"),
        format!("--tls-cert-file={}", pki("apiserver.crt")),
        format!("--tls-private-key-file={}", pki("apiserver.key")),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--token-auth-file={}", pki("tokens.csv")),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={}", pki("sa.pub")),
        format!("--service-account-signing-key-file={}", pki("sa.key")),
        format!(
            "--service-cluster-ip-range={}",
            services(state.options.families)
        ),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--kubelet-client-certificate={}", pki("kubelet-client.crt")),
        format!("--kubelet-client-key={}", pki("kubelet-client.key")),
        "--kubelet-preferred-address-types=InternalIP,Hostname".to_owned(),
        format!("--requestheader-client-ca-file={}", pki("ca.crt")),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={}", pki("front-proxy.crt")),
        format!("--proxy-client-key-file={}", pki("front-proxy.key")),
    ];
    daemon(
        "kube-apiserver",
        state.programs.path("kube-apiserver"),
        arguments,
    )
}

/// The controller manager. It gives nodes no pod ranges: pools do that.
pub fn controller_manager(state: &LabState, paths: &Paths) -> Daemon {
    let pki = |file: &str| paths.pki().join(file).display().to_string();
    let kubeconfig = pki("controller-manager.kubeconfig");
    let arguments = vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!("--cluster-name={}", state.name),
        "--leader-elect=false".to_owned(),
        "--use-service-account-credentials=true".to_owned(),
        format!("--service-account-private-key-file={}", pki("sa.key")),
        format!("--root-ca-file={}", pki("ca.crt")),
        format!("--cluster-signing-cert-file={}", pki("ca.crt")),
        format!("--cluster-signing-key-file={}", pki("ca.key")),
        "--allocate-node-cidrs=false".to_owned(),
        format!(
            "--service-cluster-ip-range={}",
            services(state.options.families)
        ),
        // Nodes cannot renew their leases while a scenario has stopped the API server for a minute:
        // with the default of 50 s they would be called gone when it is back, whatever runs on them.
        "--node-monitor-grace-period=2m".to_owned(),
        "--kube-api-qps=300".to_owned(),
        "--kube-api-burst=600".to_owned(),
    ];
    let program = state.programs.path("kube-controller-manager");
    daemon("kube-controller-manager", program, arguments)
}

/// The scheduler.
pub fn scheduler(state: &LabState, paths: &Paths) -> Daemon {
    let kubeconfig = paths.pki().join("scheduler.kubeconfig");
    let kubeconfig = kubeconfig.display();
    let arguments = vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".to_owned(),
        "--kube-api-qps=300".to_owned(),
        "--kube-api-burst=600".to_owned(),
    ];
    let program = state.programs.path("kube-scheduler");
    daemon("kube-scheduler", program, arguments)
}

/// A kubeconfig for a bearer token.
pub fn kubeconfig(server: &str, ca_pem: &str, token: &str) -> String {
    use base64::Engine;
    let ca = base64::engine::general_purpose::STANDARD.encode(ca_pem);
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: lab\n  \
           cluster: {{server: \"{server}\", certificate-authority-data: {ca}}}\n\
         users:\n\
         - name: user\n  \
           user: {{token: {token}}}\n\
         contexts:\n\
         - name: lab\n  \
           context: {{cluster: lab, user: user}}\n\
         current-context: lab\n"
    )
}

/// Writes all keys, certificates, tokens and kubeconfigs of a new lab.
pub fn write_credentials(state: &LabState, paths: &Paths) -> Result<()> {
    let dir = paths.pki();
    fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
    let addresses = state.plan().control_plane().all();
    let pki = pki::Pki::generate(&addresses)?;
    for (file, content) in pki.files() {
        write_private(&dir.join(file), content)?;
    }
    let tokens = pki::Tokens::generate()?;
    write_private(&dir.join("tokens.csv"), &tokens.csv())?;
    let server = server_url(state);
    for (file, user) in pki::USERS {
        let text = kubeconfig(&server, pki.ca(), tokens.of(user));
        write_private(&dir.join(format!("{file}.kubeconfig")), &text)?;
    }
    for (name, token) in tokens.nodes() {
        let text = kubeconfig(&server, pki.ca(), token);
        write_private(&dir.join(format!("{name}.kubeconfig")), &text)?;
    }
    Ok(())
}

/// Writes the kubeconfig that works on the machine itself, through the forwarder.
pub fn write_user_kubeconfig(paths: &Paths, port: u16) -> Result<()> {
    let read = |file| {
        let path = paths.pki().join(file);
        fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
    };
    let token = pki::token_in_csv(&read("tokens.csv")?, pki::ADMIN)
        .context("tokens.csv names no admin; run `weft-lab up` again")?;
    let server = format!("https://127.0.0.1:{port}");
    write_private(
        &paths.kubeconfig(),
        &kubeconfig(&server, &read("ca.crt")?, &token),
    )
}

fn write_private(path: &std::path::Path, content: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("failed to write {}", path.display()))?;
    Ok(file.write_all(content.as_bytes())?)
}

fn services(families: Families) -> String {
    let ranges = families.select(address::SERVICES_IPV4, address::SERVICES_IPV6);
    ranges.join(",")
}

fn daemon(name: &str, program: PathBuf, arguments: Vec<String>) -> Daemon {
    let mut argv = vec![program.display().to_string()];
    argv.extend(arguments);
    Daemon {
        name: name.to_owned(),
        place: PLACE.to_owned(),
        argv,
        env: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubeconfig_is_one_that_a_client_reads() {
        let text = kubeconfig("https://127.0.0.1:1", "CA", "token");
        let config = kube::config::Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(config.current_context.as_deref(), Some("lab"));
        let cluster = config.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://127.0.0.1:1"));
        assert_eq!(cluster.certificate_authority_data.as_deref(), Some("Q0E="));
    }

    #[test]
    fn service_ranges_follow_the_families() {
        assert_eq!(services(Families::Dual), "10.96.0.0/16,fd96::/112");
        assert_eq!(services(Families::Ipv6), "fd96::/112");
    }
}
