//! Dependencies point one way: docs/ARCHITECTURE.md. This reads `cargo metadata` and says why an edge is forbidden.

use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use std::collections::{BTreeMap, BTreeSet};

/// What a crate of the house may depend on among the crates of the house, and what it must not pull in, however deep.
struct Rule {
    house: &'static [&'static str],
    never: &'static [&'static str],
    why: &'static str,
}

const IO: &[&str] = &["tokio", "tokio-util", "mio", "socket2", "sled", "rustls", "axum"];

const ONE_TLS_PROVIDER: &[&str] = &["aws-lc-rs", "openssl-sys", "native-tls"];

/// What a broker is made of: those who speak to one do without it.
const INSIDE: &[&str] = &[
    "headgate-auth",
    "headgate-bridge",
    "headgate-bus",
    "headgate-daemon",
    "headgate-mqtt",
    "headgate-mqttsn",
    "headgate-shell",
    "headgate-store",
    "sled",
];

fn rules() -> BTreeMap<&'static str, Rule> {
    let pure = |house, why| Rule {
        house,
        never: IO,
        why,
    };
    BTreeMap::from([
        (
            "headgate-mqtt-codec",
            pure(
                &[],
                "a codec is bytes to frames and back: no I/O, no clock, no model types",
            ),
        ),
        (
            "headgate-mqttsn-codec",
            pure(
                &[],
                "a codec is bytes to frames and back: no I/O, no clock, no model types",
            ),
        ),
        (
            "headgate-model",
            pure(
                &[],
                "the vocabulary is shared by all and depends on none, or there is a cycle",
            ),
        ),
        (
            "headgate-mqtt",
            pure(
                &["headgate-model", "headgate-mqtt-codec"],
                "an endpoint is told what happens: no bus, no store, no I/O",
            ),
        ),
        (
            "headgate-bridge",
            pure(
                &["headgate-model", "headgate-mqtt-codec"],
                "an endpoint is told what happens: no bus, no store, no I/O",
            ),
        ),
        (
            "headgate-mqttsn",
            pure(
                &["headgate-model", "headgate-mqttsn-codec"],
                "an endpoint is told what happens: no bus, no store, no I/O",
            ),
        ),
        (
            "headgate-bus",
            pure(
                &["headgate-model"],
                "the core is deterministic; it knows the store only as a trait",
            ),
        ),
        (
            "headgate-store",
            Rule {
                house: &["headgate-model"],
                never: &["tokio", "tokio-util", "rustls", "axum"],
                why: "the store is written by one thread and knows neither bus nor network",
            },
        ),
        (
            "headgate-shell",
            Rule {
                house: &["headgate-access", "headgate-model", "headgate-bus"],
                never: &[
                    "sled",
                    "headgate-auth",
                    "headgate-mqtt-codec",
                    "headgate-mqttsn-codec",
                ],
                why: "the shell moves bytes and knows no protocol",
            },
        ),
        (
            "headgate-access",
            Rule {
                house: &["headgate-model"],
                never: &["sled", "rustls", "axum", "headgate-bus"],
                why: "it stands between network and access, and knows neither",
            },
        ),
        (
            "headgate-auth",
            Rule {
                house: &["headgate-access", "headgate-model"],
                never: &["sled", "headgate-bus", "headgate-shell", "headgate-mqtt-codec"],
                why: "access sees questions and answers, not protocols nor the network",
            },
        ),
        (
            "headgate-dial",
            Rule {
                house: &[],
                never: ONE_TLS_PROVIDER,
                why: "connections that go out carry any protocol",
            },
        ),
        (
            "headgate-cli",
            Rule {
                house: &[],
                never: INSIDE,
                why: "how a command answers has nothing to do with what it asks",
            },
        ),
        (
            "headgate-client",
            Rule {
                house: &["headgate-dial", "headgate-mqtt-codec"],
                never: INSIDE,
                why: "a client knows brokers by the network only",
            },
        ),
        (
            "headgate-tools",
            Rule {
                house: &[
                    "headgate-cli",
                    "headgate-client",
                    "headgate-dial",
                    "headgate-model",
                    "headgate-mqtt-codec",
                    "headgate-mqttsn-codec",
                ],
                never: INSIDE,
                why: "a client knows brokers by the network only",
            },
        ),
        (
            "headgate-bench",
            Rule {
                house: &[
                    "headgate-cli",
                    "headgate-dial",
                    "headgate-mqtt-codec",
                    "headgate-mqttsn-codec",
                    "headgate-tools",
                ],
                never: INSIDE,
                why: "what measures a broker shares nothing with it but the codecs",
            },
        ),
        (
            "headgate-daemon",
            Rule {
                house: &[
                    "headgate-access",
                    "headgate-auth",
                    "headgate-bridge",
                    "headgate-bus",
                    "headgate-cli",
                    "headgate-client",
                    "headgate-dial",
                    "headgate-model",
                    "headgate-mqtt",
                    "headgate-mqtt-codec",
                    "headgate-mqttsn",
                    "headgate-shell",
                    "headgate-store",
                ],
                never: &["headgate-tools", "headgate-bench"],
                why: "the gateway does without the tools",
            },
        ),
        (
            "headgate",
            Rule {
                house: &[
                    "headgate-bench",
                    "headgate-cli",
                    "headgate-daemon",
                    "headgate-tools",
                ],
                never: ONE_TLS_PROVIDER,
                why: "the program is a command line in front of the gateway and the tools; one TLS provider: ring",
            },
        ),
        (
            "headgate-tests",
            Rule {
                house: &[],
                never: &[],
                why: "tests may use everything",
            },
        ),
    ])
}

#[test]
fn dependencies_point_one_way() {
    let metadata = MetadataCommand::new().exec().expect("cargo metadata runs");
    let resolve = metadata.resolve.as_ref().expect("the graph is resolved");
    let names: BTreeMap<_, &str> = metadata
        .packages
        .iter()
        .map(|p| (&p.id, p.name.as_str()))
        .collect();
    // Normal dependencies only: tests may use what they like, and build scripts do not run in the product.
    let edges: BTreeMap<&str, BTreeSet<&str>> = resolve
        .nodes
        .iter()
        .map(|node| {
            let normal = |dep: &&cargo_metadata::NodeDep| {
                dep.dep_kinds
                    .iter()
                    .any(|kind| kind.kind == DependencyKind::Normal)
            };
            (
                names[&node.id],
                node.deps
                    .iter()
                    .filter(normal)
                    .map(|dep| names[&dep.pkg])
                    .collect(),
            )
        })
        .collect();
    let rules = rules();
    let mut faults = Vec::new();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let Some(rule) = rules.get(name) else {
            faults.push(format!(
                "{name} has no rule: add it here and to docs/ARCHITECTURE.md"
            ));
            continue;
        };
        faults.extend(direct(package, rule));
        faults.extend(rule.never.iter().filter_map(|never| {
            path(&edges, name, never).map(|path| format!("{}: {}", path.join(" → "), rule.why))
        }));
    }
    assert!(
        faults.is_empty(),
        "forbidden dependencies:\n{}",
        faults.join("\n")
    );
}

fn direct(package: &Package, rule: &Rule) -> Vec<String> {
    if rule.house.is_empty() && rule.never.is_empty() {
        return Vec::new();
    }
    package
        .dependencies
        .iter()
        .filter(|dep| dep.kind == DependencyKind::Normal && dep.name.starts_with("headgate"))
        .filter(|dep| !rule.house.contains(&dep.name.as_str()))
        .map(|dep| format!("{} → {}: {}", package.name, dep.name, rule.why))
        .collect()
}

/// The shortest way from one crate to another.
fn path<'a>(edges: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let mut seen = BTreeSet::from([from]);
    let mut ways = std::collections::VecDeque::from([vec![from]]);
    while let Some(way) = ways.pop_front() {
        for next in edges.get(way[way.len() - 1]).into_iter().flatten() {
            if !seen.insert(next) {
                continue;
            }
            let mut longer = way.clone();
            longer.push(next);
            if *next == to {
                return Some(longer);
            }
            ways.push_back(longer);
        }
    }
    None
}

/// Pure crates are told the time and decide nothing by chance of a hash: what reads a clock, sleeps or spawns has no place there.
#[test]
fn pure_crates_read_no_clock_and_start_no_thread() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace");
    let forbidden = [
        "Instant::now",
        "SystemTime::now",
        "thread::spawn",
        "thread::sleep",
        "std::net",
        "std::fs",
        "async fn",
    ];
    let mut faults = Vec::new();
    for folder in [
        "codecs/mqtt/src",
        "codecs/mqttsn/src",
        "gateway/model/src",
        "gateway/bus/src",
        "adapters/bridge/src",
        "adapters/mqtt/src",
        "adapters/mqttsn/src",
    ] {
        for file in std::fs::read_dir(root.join(folder)).expect("a crate's sources") {
            let path = file.expect("a readable folder").path();
            // The handle is the one impure file of the bus, behind a feature.
            if path.extension().is_none_or(|e| e != "rs") || path.ends_with("bus/src/handle.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a readable file");
            for (n, line) in text
                .lines()
                .enumerate()
                .filter(|(_, line)| !line.trim_start().starts_with("//"))
            {
                faults.extend(
                    forbidden
                        .iter()
                        .filter(|word| line.contains(*word))
                        .map(|word| format!("{}:{}: {word}", path.display(), n + 1)),
                );
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
