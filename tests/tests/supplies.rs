//! What comes in from others keeps to deny.toml: licences, sources, bans, duplicates. This reads the same file as cargo-deny, which takes longer to build
//! than Headgate; `cargo deny check advisories` is left to whoever has it, and a network.

use cargo_metadata::{MetadataCommand, Package};
use headgate_tests::workspace::read;
use regex::Regex;
use serde::Deserialize;
use spdx::{Expression, ParseMode};
use std::collections::{BTreeMap, BTreeSet};

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[derive(Deserialize)]
struct Deny {
    licenses: Licences,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licences {
    allow: BTreeSet<String>,
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Bans {
    multiple_versions: String,
    wildcards: String,
    deny: Vec<Ban>,
    skip: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    name: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    unknown_registry: String,
    unknown_git: String,
}

fn deny() -> Deny {
    toml::from_str(&read("deny.toml")).expect("deny.toml is as it was")
}

/// Every package of every feature and platform.
fn packages() -> Vec<Package> {
    let metadata = MetadataCommand::new()
        .features(cargo_metadata::CargoOpt::AllFeatures)
        .exec();
    metadata.expect("cargo metadata runs").packages
}

#[test]
fn every_licence_is_allowed() {
    let licences = deny().licenses;
    let allowed = |package: &Package| {
        let exception = licences
            .exceptions
            .iter()
            .find(|exception| exception.name == package.name.as_str());
        let licence = package.license.as_deref().unwrap_or_default();
        Expression::parse_mode(licence, ParseMode::LAX).is_ok_and(|licence| {
            licence.evaluate(|licence| {
                let licence = licence.to_string();
                licences.allow.contains(&licence)
                    || exception.is_some_and(|exception| exception.allow.contains(&licence))
            })
        })
    };
    let faults: Vec<_> = packages()
        .into_iter()
        .filter(|package| !allowed(package))
        .map(|package| format!("{} {}: {:?}", package.name, package.version, package.license))
        .collect();
    assert!(
        faults.is_empty(),
        "licences that deny.toml does not allow:\n{}",
        faults.join("\n")
    );
}

/// From this repository or the registry, with a version.
#[test]
fn every_package_comes_from_the_registry() {
    let deny = deny();
    let rules = [
        &deny.sources.unknown_registry,
        &deny.sources.unknown_git,
        &deny.bans.wildcards,
    ];
    assert_eq!(rules, ["deny"; 3], "what is checked here");
    let mut faults = Vec::new();
    for package in packages() {
        match &package.source {
            Some(source) if source.repr != REGISTRY => faults.push(format!("{}: {source}", package.name)),
            Some(_) => {}
            None => faults.extend(
                package
                    .dependencies
                    .iter()
                    .filter(|dep| dep.path.is_none() && dep.req.comparators.is_empty())
                    .map(|dep| format!("{} → {}: any version", package.name, dep.name)),
            ),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A crate that is banned, or is there twice, says who brings it with `cargo tree -i NAME`.
/// A crate of Cargo.lock.
#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// The Yocto recipe fetches what Cargo.lock says, and has our version: `make yocto-crates` writes both files.
#[test]
fn the_yocto_recipe_has_the_crates_of_the_lock() {
    const RECIPE: &str = "yocto/meta-headgate/recipes-connectivity/headgate";
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Locked>,
    }
    let lock: Lock = toml::from_str(&read("Cargo.lock")).expect("cargo wrote it");
    let locked: BTreeMap<String, String> = lock
        .package
        .into_iter()
        .filter_map(|package| Some((format!("{}-{}", package.name, package.version), package.checksum?)))
        .collect();

    let list = read(format!("{RECIPE}/headgate-crates.inc"));
    let uri = Regex::new(r"(?m)^    crate://crates\.io/(\S+)/(\S+) \\$").expect("a constant");
    let sum = Regex::new(r#"(?m)^SRC_URI\[(\S+)\.sha256sum\] = "(\w+)"$"#).expect("a constant");
    let fetched: BTreeSet<String> = uri
        .captures_iter(&list)
        .map(|found| format!("{}-{}", &found[1], &found[2]))
        .collect();
    let sums: BTreeMap<String, String> = sum
        .captures_iter(&list)
        .map(|found| (found[1].to_owned(), found[2].to_owned()))
        .collect();

    assert_eq!(sums, locked, "make yocto-crates");
    assert_eq!(fetched, locked.into_keys().collect(), "make yocto-crates");
    let version = format!("HEADGATE_VERSION = \"{}\"\n", env!("CARGO_PKG_VERSION"));
    assert!(
        read(format!("{RECIPE}/headgate-version.inc")).ends_with(&version),
        "make yocto-crates"
    );
}

#[test]
fn nothing_is_banned_and_nothing_new_is_there_twice() {
    let bans = deny().bans;
    assert_eq!(bans.multiple_versions, "deny", "what is checked here");
    let mut versions = BTreeMap::<_, BTreeSet<_>>::new();
    for package in packages() {
        versions
            .entry(package.name.to_string())
            .or_default()
            .insert(package.version);
    }
    let mut faults: Vec<_> = bans
        .deny
        .iter()
        .filter(|ban| versions.contains_key(&ban.name))
        .map(|ban| format!("{} is banned: {}", ban.name, ban.reason))
        .collect();
    let skipped: BTreeSet<_> = bans.skip.iter().map(|skip| skip.name.as_str()).collect();
    let twice: BTreeSet<_> = versions
        .iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, _)| name.as_str())
        .collect();
    faults.extend(
        twice
            .difference(&skipped)
            .map(|name| format!("{name} is there in several versions: {:?}", versions[*name])),
    );
    faults.extend(
        skipped
            .difference(&twice)
            .map(|name| format!("{name} is there once: deny.toml need not skip it")),
    );
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
