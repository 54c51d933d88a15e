//! Words of nft's language, which its parser does not take for names.
//!
//! The kernel takes any name and nft lists it; but what was listed could not be loaded again.

/// Whether nft (1.0.6 to 1.1.3) takes the word for one of its own.
pub(super) fn is_keyword(word: &str) -> bool {
    KEYWORDS
        .split_ascii_whitespace()
        .any(|keyword| keyword == word)
}

const KEYWORDS: &str = "\
    accept add ah all and arp auto-merge bridge cgroup chain comment comp constant continue \
    counter cpu create ct day dccp define delete describe destroy device devices dnat drop \
    dst dup dynamic ecn element elements eq esp ether exists expires export exthdr fib flags \
    flow flowtable flush frag fwd gc-interval ge geneve goto gre gretap gt handle hbh hook \
    hour ibriport ibrname icmp icmpv6 igmp iif iifgroup iifname iiftype import include index \
    inet insert interval ip ip6 ipsec jhash jump le limit list log lshift lt map mark \
    masquerade meta meter mh missing monitor ne netdev nftrace not notrack numgen obriport \
    obrname offload oif oifgroup oifname oiftype or osf policy priority queue quota random \
    reject rename replace reset return rshift rt rt0 rt2 rtclassid rule ruleset sctp secmark \
    set size skgid snat socket srh symhash synproxy table tcp th time timeout tproxy type \
    typeof udp udplite undefine update vlan vmap vni vxlan xor xt";
