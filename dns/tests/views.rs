//! Fast path and slow path say the same to every client, where zones are not for everybody.

use weft_core::zones::Zones;
use weft_core::zones::config::{Config, ConfigSpec};
use weft_core::zones::directory::{PodIdentity, ZoneInput};
use weft_core::zones::name::Name;
use weft_dns::fast::{self, Manner, Verdict};
use weft_dns::message::Transport;
use weft_dns::slow;
use weft_dns::upstream::Upstream;

const ZONES: [&str; 5] = [
    "{zone: corp.example, type: Authoritative, onMiss: NextZone, authoritative: {records: [
        {name: www, type: A, values: [192.0.2.1, 192.0.2.2, 192.0.2.3]},
        {name: '@', type: MX, values: ['10 www.corp.example']},
        {name: '*.apps', type: CNAME, values: [www.corp.example]},
        {name: long, type: TXT, values: ['LONG']},
        {name: same, type: ALIAS, values: [www.corp.example]}],
        delegations: [{name: sub, servers: [{name: ns.sub.corp.example, addresses: [192.0.2.9]}]}]},
      views: [
        {name: two, match: {cidrs: [10.0.0.2/32, 'fd00::/64']}, authoritative: {records: [{name: www, type: A, values: [192.0.2.22]}]}},
        {name: pods, match: {pods: {matchLabels: {app: a}}}, authoritative: {records: [{name: www, type: CNAME, values: [web.example]}]}}]}",
    "{zone: example, type: Authoritative, authoritative: {records: [
        {name: web, type: AAAA, values: ['2001:db8::1']}, {name: moved, type: DNAME, values: [corp.example]}]}}",
    "{zone: secret.example, type: Authoritative, visibility: {cidrs: [10.0.0.0/30]}, authoritative: {records: [
        {name: www, type: A, values: [192.0.2.4]}]}}",
    "{zone: ., type: Policy, policy: {rules: [
        {names: [gone.example], action: Block}, {names: [empty.example], action: Block, answer: NoData},
        {names: [no.example], action: Block, answer: Refused},
        {names: [fixed.example], action: Override, addresses: [192.0.2.5, 192.0.2.6, '2001:db8::5']},
        {names: ['*.old.example'], action: Rewrite, target: '*.corp.example'}]}}",
    "{zone: two.example, type: Policy, visibility: {cidrs: [10.0.0.2/32]}, policy: {rules: [
        {names: ['*.two.example'], action: Override, addresses: [192.0.2.7]}]}}",
];

const NAMES: [&str; 20] = [
    "www.corp.example",
    "WWW.Corp.Example",
    "corp.example",
    "a.apps.corp.example",
    "apps.corp.example",
    "long.corp.example",
    "same.corp.example",
    "a.sub.corp.example",
    "nothing.corp.example",
    "web.example",
    "a.moved.example",
    "www.moved.example",
    "www.secret.example",
    "gone.example",
    "empty.example",
    "no.example",
    "fixed.example",
    "www.old.example",
    "a.two.example",
    "nothing.example",
];

const CLIENTS: [&str; 6] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.9",
    "::ffff:10.0.0.2",
    "fd00::1",
    "2001:db8::1",
];

fn zones() -> Zones {
    let mut zones =
        Zones::new(Config::parse(&ConfigSpec::default()).expect("defaults")).expect("zones");
    zones.synced = true;
    let mut objects = zones.objects([]);
    for (number, text) in ZONES.iter().enumerate() {
        let text = text.replace("LONG", &"x".repeat(1500));
        let spec = serde_saphyr::from_str(&text).expect("a zone");
        let serial = Some(7);
        objects.set_zone(&number.to_string(), Some(ZoneInput { spec, serial }));
    }
    let refused: Vec<_> = objects.refused().collect();
    assert!(refused.is_empty(), "{refused:?}");
    let pod = PodIdentity {
        labels: [("app".to_owned(), "a".to_owned())].into(),
        addresses: vec![[10, 0, 0, 9].into()],
        ..PodIdentity::default()
    };
    objects.set_pod("ns/uid", Some(pod));
    zones.set_directory(objects.compile());
    zones
}

fn packet(name: &str, kind: u16) -> Vec<u8> {
    let mut packet = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let lower = Name::absolute(name).expect("a name");
    // The letters of the question as they were asked.
    let mut wire = lower.wire().to_vec();
    let mut at = 0;
    for label in name.split('.') {
        wire[at + 1..=at + label.len()].copy_from_slice(label.as_bytes());
        at += label.len() + 1;
    }
    packet.extend_from_slice(&wire);
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet
}

#[tokio::test]
async fn the_bytes_are_the_same_for_every_client() {
    let zones = zones();
    assert!(zones.directory().classes() > 3);
    let (mut compared, mut kinds) = (0, std::collections::BTreeSet::new());
    let mut buffer = vec![0xaa; 65_535];
    for client in CLIENTS.map(|text| text.parse().expect("an address")) {
        for name in NAMES {
            for kind in [1, 2, 5, 6, 15, 16, 28, 255] {
                for (transport, rotation) in [(Transport::Udp, 1), (Transport::Stream, 2)] {
                    let packet = packet(name, kind);
                    let verdict = fast::answer(
                        &zones,
                        Manner::default(),
                        &packet,
                        Some(client),
                        transport,
                        rotation,
                        &mut buffer,
                    );
                    let Verdict::Reply(length) = verdict else {
                        panic!("{name} {kind}: {verdict:?}");
                    };
                    let slow = slow::answer(
                        &zones,
                        &Upstream::None,
                        &packet,
                        Some(client),
                        transport,
                        rotation,
                    )
                    .await;
                    let fast = &buffer[..length];
                    assert_eq!(Some(fast), slow.as_deref(), "{name} {kind} for {client}");
                    kinds.insert((name, fast[2..].to_vec()));
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared, 6 * 20 * 8 * 2);
    let distinct = |wanted: &str| kinds.iter().filter(|(name, _)| *name == wanted).count();
    assert!(
        distinct("www.corp.example") > distinct("web.example") + 3,
        "clients get answers of their own"
    );
}
