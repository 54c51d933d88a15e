//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

const AFTER_HELP: &str = "\
Exit codes: 0 answered; 1 answered, and something of it is wrong; 2 could not tell, or not all of it.";

/// What is in force in a cluster with Weftnet, and which object says so.
#[derive(Parser, Debug)]
#[command(name = "kubectl-weft", bin_name = "kubectl weft", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// Where the cluster is.
    #[command(flatten)]
    pub access: Access,
    /// What is asked.
    #[command(subcommand)]
    pub question: Question,
}

/// Where the cluster is, in the words of kubectl.
#[derive(Args, Debug)]
pub struct Access {
    /// The kubeconfig file; without it those in KUBECONFIG, or ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context; without it the current one.
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The namespace; without it the context's.
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
}

/// A question.
#[derive(Subcommand, Debug)]
pub enum Question {
    /// Which policies apply to a pod, in which direction, and why.
    #[command(after_help = "Example: kubectl weft policy pod/web -n shop")]
    Policy {
        /// The pod: pod/NAME, or its name alone.
        #[arg(value_name = "pod/NAME")]
        pod: PodReference,
        /// How to print the answer.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Print the DnsZones that say what another cluster DNS was configured to do, and what they cannot say.
    #[command(subcommand)]
    Import(Import),
    /// Print a script that completes the command in a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Print the version.
    Version,
}

/// Whose configuration is translated.
#[derive(Subcommand, Debug)]
pub enum Import {
    /// That of CoreDNS.
    #[command(after_help = "Example: kubectl weft import corefile > zones.yaml")]
    Corefile {
        /// A Corefile, or the ConfigMap that holds it as kubectl prints it; - for standard input. Without it the cluster's.
        file: Option<PathBuf>,
    },
    /// That of kube-dns.
    KubeDns {
        /// The ConfigMap as kubectl prints it; - for standard input. Without it the cluster's.
        file: Option<PathBuf>,
    },
}

/// How to print an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// A pod's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodReference(pub String);

impl std::str::FromStr for PodReference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = match text.split_once('/') {
            None => text,
            Some(("pod" | "pods" | "po", name)) => name,
            Some((other, _)) => {
                return Err(format!(
                    "policies are about pods, not about {other:?}: write pod/NAME, and the namespace with -n"
                ));
            }
        };
        if name.is_empty() || name.contains('/') {
            return Err("write pod/NAME, and the namespace with -n".to_owned());
        }
        Ok(Self(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_whole() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_pod_may_be_named_as_in_kubectl_and_nothing_else_is_a_pod() {
        for text in ["pod/web", "pods/web", "po/web", "web"] {
            assert_eq!(text.parse(), Ok(PodReference("web".to_owned())), "{text}");
        }
        for text in ["svc/web", "pod/", "pod/shop/web", ""] {
            assert!(text.parse::<PodReference>().is_err(), "{text}");
        }
    }
}
