//! A cluster as both layouts are given it: 20,000 pods, 250 of them local, and policies that ask for
//! pods by a label of theirs and one of their namespace.

use std::net::Ipv4Addr;

/// Pods of the cluster.
pub const PODS: u32 = 20_000;
/// Those of the node; the first ones, each in a namespace of its own.
pub const LOCAL: u32 = 250;
/// Namespaces; pods are spread over all of them.
pub const NAMESPACES: u32 = 500;
/// Values of the namespaces' label.
pub const TEAMS: u32 = 50;
/// Values of the pods' label.
pub const APPS: u32 = 10;
/// The port that policies allow.
pub const PORT: u16 = 80;
/// The remote pod whose connections to local pod 0 are measured.
pub const CLIENT: u32 = PODS - 1;

/// What a policy allows: pods of this label in namespaces of that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asks {
    /// The namespaces' label.
    pub team: u32,
    /// The pods' label.
    pub app: u32,
}

/// How many policies there are.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// So many, spread over all namespaces; each selects all pods of its own.
    pub policies: u32,
}

impl Load {
    /// What a policy allows. The last one of namespace 0 allows the client.
    pub fn asks(self, policy: u32) -> Asks {
        let is_last = policy + NAMESPACES >= self.policies;
        if namespace_of_policy(policy) == 0 && is_last {
            return Asks {
                team: team(namespace_of_pod(CLIENT)),
                app: app(CLIENT),
            };
        }
        let round = policy / NAMESPACES;
        Asks {
            team: (policy * 3 + round * 5) % (TEAMS - 1),
            app: (policy + round) % (APPS - 1),
        }
    }
}

/// The namespace of a policy.
pub fn namespace_of_policy(policy: u32) -> u32 {
    policy % NAMESPACES
}

/// The namespace of a pod.
pub fn namespace_of_pod(pod: u32) -> u32 {
    pod % NAMESPACES
}

/// The label of a namespace.
pub fn team(namespace: u32) -> u32 {
    namespace % TEAMS
}

/// The label of a pod.
pub fn app(pod: u32) -> u32 {
    pod / NAMESPACES % APPS
}

/// The address of a pod. Those from [`PODS`] on are nobody's at first.
pub fn address(pod: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 64, 0, 1)) + pod)
}

/// Index of a local pod's link.
pub fn link(pod: u32) -> u32 {
    1000 + pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_policy_of_the_measured_pod_allows_the_client_and_the_others_do_not() {
        let client = Asks {
            team: team(namespace_of_pod(CLIENT)),
            app: app(CLIENT),
        };
        for policies in [1, 1000, 10_000] {
            let load = Load { policies };
            let own = (0..policies).filter(|policy| namespace_of_policy(*policy) == 0);
            let allowing = own.filter(|policy| load.asks(*policy) == client);
            assert_eq!(allowing.count(), 1, "of {policies}");
        }
    }
}
