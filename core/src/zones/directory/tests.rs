//! Who sees what: by hand, and against a model that compiles nothing.

use proptest::prelude::*;

use super::*;
use crate::zones::Zones;
use crate::zones::answer::{Outcome, Question, Rcode, Section, Sections};
use crate::zones::config::{Config, ConfigSpec};
use crate::zones::record::RecordType;

/// The last byte of each address of an answer.
#[derive(Default)]
struct Answers(Vec<u8>);

impl Sections for Answers {
    fn put(&mut self, section: Section, _: &[u8], _: RecordType, _: u32, data: &[u8]) -> bool {
        if section == Section::Answer {
            self.0.extend(data.last());
        }
        true
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

fn zones() -> Zones {
    let mut zones =
        Zones::new(Config::parse(&ConfigSpec::default()).expect("defaults")).expect("zones");
    zones.synced = true;
    zones
}

/// What a name answers to a client: addresses, a code, or whom to ask.
fn ask(zones: &Zones, client: [u8; 4], name: &str) -> String {
    let name = Name::absolute(name).expect("a name");
    let question = Question {
        name: name.wire(),
        lower: name.wire(),
        kind: RecordType::A,
        rotation: 0,
        client: Some(client.into()),
    };
    let mut answers = Answers::default();
    match zones.answer(&question, &mut answers) {
        Outcome::Done {
            rcode: Rcode::NoError,
            ..
        } => format!("{:?}", answers.0),
        Outcome::Done { rcode, .. } => format!("{rcode:?}"),
        Outcome::Ask(ask) => ask
            .via
            .map_or("others".to_owned(), |via| format!("ask {}", via.key)),
    }
}

fn input(spec: &str) -> Option<ZoneInput> {
    Some(ZoneInput {
        spec: serde_saphyr::from_str(spec).expect("a spec"),
        serial: None,
    })
}

fn records(zone: &str, last: u8, more: &str) -> Option<ZoneInput> {
    input(&format!(
        "{{zone: {zone}, type: Authoritative, {more}authoritative: {{records: [{{name: www, type: A, values: [192.0.2.{last}]}}]}}}}"
    ))
}

fn compiled(zones: &Zones, objects: &mut Objects) -> Zones {
    let mut zones = zones.clone();
    zones.set_directory(objects.compile());
    zones
}

#[test]
fn the_longest_name_the_most_specific_audience_the_priority_and_the_name_decide() {
    let zones = zones();
    let mut objects = zones.objects([]);
    objects.set_zone("d", records("example", 1, ""));
    objects.set_zone("c", records("corp.example", 2, ""));
    objects.set_zone("b", records("corp.example", 3, "priority: 1, "));
    objects.set_zone(
        "a",
        records("corp.example", 4, "visibility: {cidrs: [10.0.0.0/8]}, "),
    );
    let zones = compiled(&zones, &mut objects);
    assert_eq!(ask(&zones, [192, 0, 2, 1], "www.corp.example"), "[3]");
    assert_eq!(ask(&zones, [10, 0, 0, 1], "www.corp.example"), "[4]");
    assert_eq!(ask(&zones, [10, 0, 0, 1], "www.example"), "[1]");
    assert_eq!(ask(&zones, [10, 0, 0, 1], "a.corp.example"), "NxDomain");
    assert_eq!(ask(&zones, [10, 0, 0, 1], "www.example.org"), "others");
    assert_eq!(zones.directory().classes(), 2);
}

#[test]
fn a_missing_name_is_passed_on_where_the_zone_says_so() {
    let zones = zones();
    let mut objects = zones.objects([]);
    objects.set_zone("a", records("corp.example", 1, "onMiss: NextZone, "));
    objects.set_zone(
        "b",
        input("{zone: example, type: Forward, forward: {upstreams: [{address: 192.0.2.53}], except: [x.example]}}"),
    );
    objects.set_zone("c", records("other.test", 1, "onMiss: Forward, "));
    let zones = compiled(&zones, &mut objects);
    let client = [192, 0, 2, 1];
    assert_eq!(ask(&zones, client, "www.corp.example"), "[1]");
    assert_eq!(ask(&zones, client, "a.corp.example"), "ask b");
    assert_eq!(ask(&zones, client, "a.x.example"), "others");
    assert_eq!(ask(&zones, client, "a.other.test"), "others");
    assert_eq!(
        ask(&zones, client, "a.default.svc.cluster.local"),
        "NxDomain"
    );
}

#[test]
fn rules_come_before_zones_and_not_before_the_cluster() {
    let zones = zones();
    let mut objects = zones.objects([]);
    objects.set_zone("a", records("corp.example", 1, ""));
    let rules = "{zone: ., type: Policy, ALLOW policy: {rules: [
        {names: ['*.corp.example', '*.cluster.local'], action: Block, answer: Refused},
        {names: [ok.corp.example], action: Allow},
        {names: [www.old.example], action: Rewrite, target: www.corp.example},
        {names: [fixed.example], action: Override, addresses: [192.0.2.9, '2001:db8::1']}]}}";
    objects.set_zone("r", input(&rules.replace("ALLOW", "")));
    let before = compiled(&zones, &mut objects);
    let client = [192, 0, 2, 1];
    assert_eq!(ask(&before, client, "www.corp.example"), "Refused");
    assert_eq!(ask(&before, client, "ok.corp.example"), "NxDomain");
    assert_eq!(
        ask(&before, client, "www.old.example"),
        "[1]",
        "no rule holds for what was rewritten"
    );
    assert_eq!(ask(&before, client, "fixed.example"), "[9]");
    assert_eq!(
        ask(&before, client, "a.default.svc.cluster.local"),
        "NxDomain"
    );
    objects.set_zone(
        "r",
        input(&rules.replace("ALLOW", "allowClusterDomain: true,")),
    );
    let after = compiled(&zones, &mut objects);
    assert_eq!(
        ask(&after, client, "a.default.svc.cluster.local"),
        "Refused"
    );
}

#[test]
fn the_last_good_version_stays_until_the_zone_goes() {
    let zones = zones();
    let mut objects = zones.objects([]);
    let client = [192, 0, 2, 1];
    objects.set_zone("a", records("corp.example", 1, ""));
    let bad = "{zone: corp.example, type: Authoritative, authoritative: {records: [{name: www, type: A, values: [x]}]}}";
    objects.set_zone("a", input(bad));
    assert_eq!(objects.refused().count(), 1);
    assert_eq!(
        ask(&compiled(&zones, &mut objects), client, "www.corp.example"),
        "[1]"
    );
    let saved: Vec<GoodZone> = objects.good().map(|(_, zone)| zone.clone()).collect();
    objects.set_zone("a", None);
    assert_eq!(
        ask(&compiled(&zones, &mut objects), client, "www.corp.example"),
        "others"
    );
    objects.set_zone("a", input(bad));
    assert_eq!(
        ask(&compiled(&zones, &mut objects), client, "www.corp.example"),
        "others"
    );
    let mut known = input(bad);
    known.iter_mut().for_each(|input| input.serial = Some(7));
    objects.set_zone("a", known);
    assert_eq!(
        ask(&compiled(&zones, &mut objects), client, "www.corp.example"),
        "ServFail",
        "there is a good version, and it is not here"
    );
    objects.set_zone("a", Some(saved[0].input.clone()));
    assert_eq!(
        ask(&compiled(&zones, &mut objects), client, "www.corp.example"),
        "[1]"
    );
}

#[test]
fn zones_of_one_name_and_one_audience_are_shadowed_and_no_others() {
    let mut objects = zones().objects([]);
    objects.set_zone("a", records("corp.example", 1, ""));
    objects.set_zone("b", records("corp.example", 2, ""));
    objects.set_zone(
        "c",
        records("corp.example", 3, "visibility: {cidrs: [10.0.0.0/8]}, "),
    );
    objects.set_zone("d", records("other.example", 4, ""));
    objects.set_zone(
        "e",
        records("corp.example", 5, "priority: 9, onMiss: NextZone, "),
    );
    let good = |objects: &Objects| -> Vec<(String, Vec<String>)> {
        let zones = objects.zones.iter();
        let zones = zones.filter_map(|(name, entry)| Some((&**name, &*entry.good.as_ref()?.1)));
        let found = shadow::shadowed(zones).into_iter();
        found
            .map(|(name, others)| {
                let others = others.iter().map(|other| (*other).to_owned());
                (name.to_owned(), others.collect())
            })
            .collect()
    };
    let expected = vec![("b".to_owned(), vec!["a".to_owned()])];
    assert_eq!(good(&objects), expected);
}

/// A change of what there is.
#[derive(Clone, Debug)]
enum Change {
    Zone(u8, Option<u8>),
    Pod(u8, Option<(u8, u8, u8)>),
    Space(u8, Option<u8>),
    Node(u8, Option<u8>),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let some = || prop::option::of(0..4_u8);
    let change = prop_oneof![
        (0..5_u8, prop::option::of(0..7_u8)).prop_map(|(zone, who)| Change::Zone(zone, who)),
        (0..5_u8, prop::option::of((0..3_u8, 0..3_u8, 0..4_u8)))
            .prop_map(|(pod, what)| Change::Pod(pod, what)),
        (0..3_u8, some()).prop_map(|(space, label)| Change::Space(space, label)),
        (0..3_u8, some()).prop_map(|(node, label)| Change::Node(node, label)),
    ];
    prop::collection::vec(change, 1..30)
}

/// Audiences of the zones of the property.
const AUDIENCES: [&str; 7] = [
    "",
    "visibility: {cidrs: [10.0.0.0/30]}, ",
    "visibility: {pods: {matchLabels: {l: '1'}}}, ",
    "visibility: {namespaces: {matchLabels: {l: '1'}}}, ",
    "visibility: {nodes: {matchLabels: {l: '1'}}}, ",
    "visibility: {pods: {matchLabels: {l: '2'}}, namespaces: {matchLabels: {l: '2'}}, cidrs: [10.0.0.4/32]}, ",
    "onMiss: NextZone, visibility: {pods: {}}, ",
];

fn labels(label: u8) -> Labels {
    [("l".to_owned(), label.to_string())].into()
}

fn apply(objects: &mut Objects, change: &Change) {
    match change {
        Change::Zone(zone, who) => {
            let input = who.and_then(|who| {
                let audience = AUDIENCES[usize::from(who)];
                records("corp.example", zone + 1, audience)
            });
            objects.set_zone(&format!("z{zone}"), input);
        }
        Change::Pod(pod, what) => {
            let identity = what.map(|(space, node, label)| PodIdentity {
                namespace: format!("s{space}").into(),
                node: format!("n{node}").into(),
                labels: labels(label),
                // Some pods say the same address.
                addresses: vec![[10, 0, 0, pod / 2].into(), [10, 0, 1, *pod].into()],
                created: i64::from(*pod),
            });
            objects.set_pod(&format!("p{pod}"), identity);
        }
        Change::Space(space, label) => {
            objects.set_namespace(&format!("s{space}"), label.map(labels));
        }
        Change::Node(node, label) => {
            let identity = label.map(|label| NodeIdentity {
                labels: labels(label),
                addresses: vec![[10, 0, 2, *node].into()],
            });
            objects.set_node(&format!("n{node}"), identity);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// What came step by step answers as what came at once, and as the rules say for one client alone.
    #[test]
    fn the_result_depends_on_what_there_is(changes in changes(), pauses in any::<u32>()) {
        let zones = zones();
        let mut stepwise = zones.objects([]);
        let mut last: BTreeMap<String, Change> = BTreeMap::new();
        for (index, change) in changes.iter().enumerate() {
            apply(&mut stepwise, change);
            if pauses >> (index % 32) & 1 == 1 {
                stepwise.compile();
            }
            let key = match change {
                Change::Zone(which, _) => format!("z{which}"),
                Change::Pod(which, _) => format!("p{which}"),
                Change::Space(which, _) => format!("s{which}"),
                Change::Node(which, _) => format!("n{which}"),
            };
            last.insert(key, change.clone());
        }
        let mut at_once = zones.objects([]);
        for change in last.values().rev() {
            apply(&mut at_once, change);
        }
        let (first, second) = (compiled(&zones, &mut stepwise), compiled(&zones, &mut at_once));
        for client in (0..3).flat_map(|third| (0..6).map(move |fourth| [10, 0, third, fourth])) {
            let answer = ask(&first, client, "www.corp.example");
            prop_assert_eq!(&answer, &ask(&second, client, "www.corp.example"), "{:?}", client);
            prop_assert_eq!(&answer, &model(&stepwise, client), "{:?}", client);
        }
    }
}

/// What a client should be answered: all zones looked at one by one.
fn model(objects: &Objects, client: [u8; 4]) -> String {
    let address = client.into();
    let identity = objects.people.identity(address);
    let seen = objects.zones.iter().filter_map(|(name, entry)| {
        let object = &entry.good.as_ref()?.1;
        let rank = match &object.visibility {
            None => 0,
            Some(audience) => audience.rank(address, identity)?,
        };
        let last = name[1..].parse::<u8>().expect("a number") + 1;
        Some((std::cmp::Reverse(rank), name.clone(), last))
    });
    // Each zone of the property has the name that is asked for, so that the first one answers.
    let first = seen.min();
    first.map_or("others".to_owned(), |(_, _, last)| format!("[{last}]"))
}
