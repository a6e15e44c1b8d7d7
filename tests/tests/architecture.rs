//! Dependencies point one way: docs/ARCHITECTURE.md. This reads `cargo metadata` and says why an edge is forbidden.

use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use headgate_tests::workspace;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

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
    "headgate-coap",
    "headgate-daemon",
    "headgate-lwm2m",
    "headgate-mqtt",
    "headgate-mqttsn",
    "headgate-shell",
    "headgate-stomp",
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
            "headgate-dtls-codec",
            pure(
                &[],
                "a codec is bytes to records and back: no I/O, no clock, no keys",
            ),
        ),
        (
            "headgate-dtls",
            pure(
                &["headgate-dtls-codec", "headgate-model"],
                "a server is told what happens, time and random bytes too: no I/O, no files",
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
            "headgate-coap-codec",
            pure(
                &[],
                "a codec is bytes to frames and back: no I/O, no clock, no model types",
            ),
        ),
        (
            "headgate-lwm2m-codec",
            pure(
                &[],
                "a codec is bytes to records and back: no I/O, no clock, no model types",
            ),
        ),
        (
            "headgate-stomp-codec",
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
            "headgate-coap",
            pure(
                &["headgate-coap-codec", "headgate-model"],
                "an endpoint is told what happens: no bus, no store, no I/O",
            ),
        ),
        (
            "headgate-lwm2m",
            pure(
                &[
                    "headgate-coap",
                    "headgate-coap-codec",
                    "headgate-lwm2m-codec",
                    "headgate-model",
                ],
                "LwM2M is spoken over CoAP, and is told what happens: no bus, no store, no I/O",
            ),
        ),
        (
            "headgate-stomp",
            pure(
                &["headgate-model", "headgate-stomp-codec"],
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
                house: &[
                    "headgate-access",
                    "headgate-bus",
                    "headgate-certificate-time",
                    "headgate-dtls",
                    "headgate-dtls-codec",
                    "headgate-model",
                    "headgate-sockjs",
                ],
                never: &[
                    "sled",
                    "headgate-auth",
                    "headgate-coap-codec",
                    "headgate-mqtt-codec",
                    "headgate-mqttsn-codec",
                    "headgate-stomp-codec",
                ],
                why: "the shell moves bytes and knows no protocol",
            },
        ),
        (
            "headgate-sockjs",
            Rule {
                house: &[],
                never: &["sled", "rustls"],
                why: "it carries the messages of any protocol, and knows none",
            },
        ),
        (
            "headgate-web",
            Rule {
                house: &[],
                never: &["sled", "rustls"],
                why: "it is files for browsers, and knows no gateway",
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
            "headgate-admin",
            Rule {
                house: &["headgate-auth"],
                never: &["sled", "axum", "hyper", "headgate-bus", "headgate-shell"],
                why: "who runs the gateway is known without a network and without a clock",
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
            "headgate-import",
            Rule {
                house: &["headgate-auth"],
                never: &["sled", "rustls", "axum", "headgate-bus", "headgate-shell"],
                why: "an import is texts to a text: it knows users of others, and no gateway",
            },
        ),
        (
            "headgate-certificate-time",
            Rule {
                house: &[],
                never: ONE_TLS_PROVIDER,
                why: "both sides of TLS judge certificates by one time",
            },
        ),
        (
            "headgate-dial",
            Rule {
                house: &["headgate-certificate-time"],
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
                    "headgate-coap-codec",
                    "headgate-dial",
                    "headgate-lwm2m-codec",
                    "headgate-model",
                    "headgate-mqtt-codec",
                    "headgate-mqttsn-codec",
                    "headgate-stomp-codec",
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
                    "headgate-stomp-codec",
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
                    "headgate-admin",
                    "headgate-auth",
                    "headgate-bridge",
                    "headgate-bus",
                    "headgate-certificate-time",
                    "headgate-cli",
                    "headgate-client",
                    "headgate-coap",
                    "headgate-dial",
                    "headgate-import",
                    "headgate-lwm2m",
                    "headgate-model",
                    "headgate-mqtt",
                    "headgate-mqtt-codec",
                    "headgate-mqttsn",
                    "headgate-shell",
                    "headgate-stomp",
                    "headgate-store",
                    "headgate-web",
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
            "headgate-fuzz",
            Rule {
                house: &[],
                never: IO,
                why: "codecs are tested with it, and it knows none of them",
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

/// A place in the sources that a rule forbids.
fn faults(files: &[PathBuf], forbidden: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    for path in files {
        let text = workspace::read(path);
        let code = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"));
        for (n, line) in code {
            faults.extend(
                forbidden
                    .iter()
                    .filter(|word| holds(line, word))
                    .map(|word| format!("{}:{}: {word}", path.display(), n + 1)),
            );
        }
    }
    faults
}

/// Whether a line has this word, and not as a part of a longer one.
fn holds(line: &str, word: &str) -> bool {
    let of_a_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = word.starts_with(of_a_name) && line[..at].ends_with(of_a_name);
        let behind = word.ends_with(of_a_name) && line[at + word.len()..].starts_with(of_a_name);
        !before && !behind
    })
}

#[test]
fn a_word_is_no_part_of_a_longer_one() {
    assert!(holds("let bus = Bus::new();", "Bus"));
    assert!(holds("use headgate_bus::{Bus, Clock};", "Bus"));
    assert!(!holds("BusOutputs, ABus", "Bus"));
    assert!(holds("Admitted::of_gateway(x)", "of_gateway"));
    assert!(!holds("is_of_gateway(x)", "of_gateway"));
}

/// Pure crates are told the time and decide nothing by chance of a hash: what reads a clock, sleeps or spawns has no place there.
#[test]
fn pure_crates_read_no_clock_and_start_no_thread() {
    let forbidden = [
        "Instant::now",
        "SystemTime",
        "std::thread",
        "thread::spawn",
        "thread::sleep",
        "std::net",
        "std::fs",
        "async",
        ".await",
        "disallowed_methods",
    ];
    let pure = [
        "codecs/coap/src",
        "codecs/lwm2m/src",
        "codecs/mqtt/src",
        "codecs/mqttsn/src",
        "codecs/stomp/src",
        "gateway/model/src",
        "gateway/bus/src",
        "gateway/import/src",
        "adapters/bridge/src",
        "adapters/coap/src",
        "adapters/lwm2m/src",
        "adapters/mqtt/src",
        "adapters/mqttsn/src",
        "adapters/stomp/src",
    ];
    // Behind the feature `handle`, the bus is driven by threads and a clock: this module is the shell of a pure core.
    let driver = |path: &PathBuf| {
        path.starts_with("gateway/bus/src/handle") || path.ends_with("gateway/bus/src/handle.rs")
    };
    let files: Vec<_> = pure
        .iter()
        .flat_map(|folder| workspace::files(folder, "rs"))
        .filter(|path| !driver(path))
        .collect();
    let faults = faults(&files, &forbidden);
    assert!(
        faults.is_empty(),
        "pure crates are told the time:\n{}",
        faults.join("\n")
    );
}

/// What a client says reaches the bus through the gate of its listener (`gateway/model/src/gate.rs`). The gateway itself needs none, and these speak for it.
#[test]
fn nobody_passes_by_the_gate() {
    let speaks_for_the_gateway = |path: &PathBuf| {
        path.starts_with("adapters/bridge")
            || path.starts_with("gateway/bus")
            || path.starts_with("gateway/daemon")
            || path.starts_with("tests")
            || path.components().any(|part| part.as_os_str() == "tests")
            // It opens the one session that publishes for all sensors without a connection (QoS −1); their messages pass the gate.
            || path.ends_with("adapters/mqttsn/src/publisher.rs")
            || path.ends_with("gateway/model/src/gate.rs")
    };
    let files: Vec<_> = ["adapters", "codecs", "gateway", "store"]
        .iter()
        .flat_map(|folder| workspace::files(folder, "rs"))
        .filter(|path| !speaks_for_the_gateway(path))
        .collect();
    assert!(files.len() > 100, "the sources were found");
    let mut faults = faults(&files, &["of_gateway", "each_of_gateway"]);
    // What the gate does for all of them is done nowhere else.
    let adapters: Vec<_> = files
        .into_iter()
        .filter(|path| path.starts_with("adapters"))
        .collect();
    faults.extend(self::faults(
        &adapters,
        &[
            ".mount.mount(",
            "MountPoint::mount",
            "b\"$SYS",
            "\"$SYS/",
            "RESERVED_CLIENT_ID",
        ],
    ));
    assert!(
        faults.is_empty(),
        "only the gate admits what clients say:\n{}",
        faults.join("\n")
    );
}

/// The daemon sets up the bus in one place. Everything else uses the hub: publish, pages of what there is, notices.
#[test]
fn the_daemon_uses_the_hub_and_not_the_bus_below_it() {
    let files: Vec<_> = workspace::files("gateway/daemon/src", "rs")
        .into_iter()
        .filter(|path| !path.ends_with("gateway/daemon/src/daemon.rs"))
        .collect();
    assert!(files.len() > 20, "the sources were found");
    let faults = faults(&files, &["Bus", "BusOutputs"]);
    assert!(faults.is_empty(), "ask the hub:\n{}", faults.join("\n"));
}

/// The daemon knows protocols by their traits: adapters are named in the registry alone. Bridges are no protocol that listeners speak.
#[test]
fn only_the_registry_names_adapters() {
    let files: Vec<_> = workspace::files("gateway/daemon/src", "rs")
        .into_iter()
        .filter(|path| !path.ends_with("gateway/daemon/src/protocols.rs"))
        .collect();
    assert!(files.len() > 20, "the sources were found");
    let faults = faults(
        &files,
        &[
            "headgate_coap::",
            "headgate_lwm2m::",
            "headgate_mqtt::",
            "headgate_mqttsn::",
            "headgate_stomp::",
        ],
    );
    assert!(
        faults.is_empty(),
        "name it in the registry:\n{}",
        faults.join("\n")
    );
}

/// Errors have a type, so that whoever gets one can tell what it was: no text, and no box. A trait object is for the end of a command, which tells its error and exits.
#[test]
fn errors_have_a_type() {
    let exempt = |path: &PathBuf| {
        path.components()
            .any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "examples" | "benches")))
            // Tests in files of their own.
            || path.to_string_lossy().ends_with("tests.rs")
            // `Outcome`: what a command ends with.
            || path.ends_with("gateway/cli/src/lib.rs")
    };
    let files: Vec<_> = ["adapters", "codecs", "gateway", "store"]
        .iter()
        .flat_map(|folder| workspace::files(folder, "rs"))
        .filter(|path| !exempt(path))
        .collect();
    assert!(files.len() > 100, "the sources were found");
    let mut faults = Vec::new();
    for path in &files {
        let text = workspace::read(path);
        faults.extend(untyped(&text).map(|(n, line)| format!("{}:{n}: {line}", path.display())));
    }
    assert!(faults.is_empty(), "give the error a type:\n{}", faults.join("\n"));
}

/// Lines of a source that name an error without a type, with their numbers. Tests at its end may.
fn untyped(text: &str) -> impl Iterator<Item = (usize, &str)> {
    const TEXT: [&str; 3] = ["String", "&str", "&'static str"];
    let boxed = |line: &str| line.contains("Box<dyn Error") || line.contains("Box<dyn std::error::Error");
    let parsed = |line: &str| line.contains("type Err = String;") || line.contains("type Error = String;");
    (1..)
        .zip(text.lines())
        .take_while(|(_, line)| *line != "mod tests {")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .filter(move |(_, line)| {
            boxed(line) || parsed(line) || errors(line).any(|error| TEXT.contains(&error))
        })
        .map(|(n, line)| (n, line.trim()))
}

/// What stands at the place of the error in each `Result<…, …>` of a line.
fn errors(line: &str) -> impl Iterator<Item = &str> {
    const RESULT: &str = "Result<";
    line.match_indices(RESULT).filter_map(|(at, _)| {
        let inside = &line[at + RESULT.len()..];
        let (mut depth, mut comma) = (0, None);
        for (n, c) in inside.char_indices() {
            match c {
                '<' | '(' | '[' => depth += 1,
                '>' if inside[..n].ends_with('-') => {}
                '>' if depth == 0 => return Some(inside[comma? + 1..n].trim()),
                '>' | ')' | ']' => depth -= 1,
                ',' if depth == 0 => comma = Some(n),
                _ => {}
            }
        }
        None
    })
}

#[test]
fn an_error_without_a_type_is_found() {
    for line in [
        "fn a() -> Result<u8, String> {",
        "    Told(Result<(), String>),",
        ") -> Result<Vec<u8>, &'static str> {",
        "    type Err = String;",
        "fn b() -> Result<(), Box<dyn std::error::Error>> {",
        "type Outcome = Result<(), Box<dyn Error + Send>>;",
    ] {
        assert_eq!(untyped(line).count(), 1, "{line}");
    }
    for line in [
        "fn a() -> Result<String, Fault> {",
        "/// `Result<u8, String>` says little.",
        "fn b(names: &BTreeMap<u8, String>) {",
        "fn c() -> Result<BTreeMap<u8, String>, Fault> {",
        "fn d() -> Result<impl Fn(u8) -> (u8, String), Fault> {",
        "mod tests {\nfn e() -> Result<u8, String> {",
    ] {
        assert_eq!(untyped(line).count(), 0, "{line}");
    }
}
