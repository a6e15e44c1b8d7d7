//! Variables of the environment that are nearly ours.

use super::document::ENV_PREFIX;
use super::told::{Location, Told};
use super::words::nearest;

/// Variables that begin like ours and set nothing: of the command line, of the tests, and what container platforms set for a service called `headgate`.
/// One that ends with `_` stands for all that begin so.
const OTHERS: [&str; 17] = [
    "HEADGATE_CONFIG",
    "HEADGATE_PASSWORD",
    "HEADGATE_ATTACK",
    "HEADGATE_CUT",
    "HEADGATE_CUT_",
    "HEADGATE_FUZZ_",
    "HEADGATE_KILL_",
    "HEADGATE_OUTAGE_",
    "HEADGATE_SEED",
    "HEADGATE_SEEDS",
    "HEADGATE_TEST_",
    "HEADGATE_SERVICE_",
    "HEADGATE_PORT",
    "HEADGATE_PORT_",
    "HEADGATE_VERSION",
    "HEADGATE_IMAGE",
    "HEADGATE_HOME",
];

/// The environment; what is no UTF-8 is made some, so that it cannot be what was meant and is told.
pub(crate) fn all() -> impl Iterator<Item = (String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

/// A warning for each variable that was probably meant to set something, but does not.
pub(super) fn warnings<'a>(names: impl IntoIterator<Item = &'a str>, sections: &[String]) -> Vec<Told> {
    let mut names: Vec<&str> = names.into_iter().filter(|name| is_nearly_ours(name)).collect();
    names.sort_unstable();
    let warning = |name: &str| Told {
        place: Location::Variable(name.to_owned()),
        key: String::new(),
        message: match meant(name, sections) {
            Some(meant) => format!("it sets nothing; did you mean {meant}?"),
            None => format!(
                "it sets nothing: names of settings begin with {ENV_PREFIX}, as in {ENV_PREFIX}MQTT__MAX_QOS"
            ),
        },
    };
    names.into_iter().map(warning).collect()
}

fn is_nearly_ours(name: &str) -> bool {
    let upper = name.to_uppercase();
    let first = upper.split('_').next().unwrap_or_default();
    let others = OTHERS.iter().any(|other| match other.strip_suffix('_') {
        Some(_) => name.starts_with(other),
        None => name == *other,
    });
    !name.starts_with(ENV_PREFIX)
        && !others
        // Misspelt in its first word, it is taken for ours only by the two underscores.
        && (first == "HEADGATE" || (upper.contains("__") && strsim::damerau_levenshtein(first, "HEADGATE") <= 1))
}

/// What it would be if it were ours.
fn meant(name: &str, sections: &[String]) -> Option<String> {
    let upper = name.to_uppercase();
    let (_, rest) = upper.split_once('_')?;
    let rest = rest.trim_start_matches('_').to_lowercase();
    let commands = ["HEADGATE_CONFIG", "HEADGATE_PASSWORD"];
    let section = sections.iter().find(|section| {
        let below = rest.strip_prefix(section.as_str());
        below.is_some_and(|below| below.is_empty() || below.starts_with('_'))
    });
    if let Some(section) = section {
        let below = rest[section.len()..].trim_start_matches('_');
        let key = match below {
            "" => section.clone(),
            below => format!("{section}__{below}"),
        };
        return Some(format!("{ENV_PREFIX}{}", key.to_uppercase()));
    }
    let distance = |word: &str| strsim::damerau_levenshtein(&upper, word);
    let command = commands.into_iter().find(|command| distance(command) <= 2);
    let of_top_level = || {
        let word = nearest(&rest, sections.iter().map(String::as_str))?;
        Some(format!("{ENV_PREFIX}{}", word.to_uppercase()))
    };
    command.map(str::to_owned).or_else(of_top_level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearly_ours_is_told_with_what_was_meant() {
        let sections = ["bus", "mqtt", "mqttsn", "node", "log", "max_connections"].map(str::to_owned);
        for (name, meant) in [
            ("HEADGATE_BUS__MAX_INFLIGHT", Some("HEADGATE__BUS__MAX_INFLIGHT")),
            ("HEADGATE_BUS_MAX_INFLIGHT", Some("HEADGATE__BUS__MAX_INFLIGHT")),
            ("HEADGATE_NODE", Some("HEADGATE__NODE")),
            ("headgate__node", Some("HEADGATE__NODE")),
            ("HEADGAET__NODE", Some("HEADGATE__NODE")),
            ("HEADGATE_MQTTSN__NAME", Some("HEADGATE__MQTTSN__NAME")),
            ("HEADGATE_MAX_CONECTIONS", Some("HEADGATE__MAX_CONNECTIONS")),
            ("HEADGATE_CONFGI", Some("HEADGATE_CONFIG")),
            ("HEADGATE_SOMETHING_ELSE", None),
        ] {
            let warned = warnings([name], &sections);
            assert_eq!(warned.len(), 1, "{name}");
            let text = warned[0].to_string();
            assert!(text.starts_with(&format!("environment variable {name}: it sets nothing")));
            match meant {
                Some(meant) => assert!(text.ends_with(&format!("did you mean {meant}?")), "{text}"),
                None => assert!(text.contains("begin with HEADGATE__"), "{text}"),
            }
        }
        let others = [
            "HEADGATE__NODE",
            "HEADGATE_CONFIG",
            "HEADGATE_PORT_1883_TCP",
            "HEADGATE_FUZZ_SEED",
            "PATH",
            "A__B",
        ];
        assert_eq!(warnings(others, &sections), []);
    }
}
