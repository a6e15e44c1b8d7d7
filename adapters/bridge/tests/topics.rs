//! Topic lines and what they do to names. mosquitto.conf(5), `topic`.

use headgate_bridge::{
    BridgePlan, BridgeSettings, BridgeSettingsError, Direction, QueueSettings, RetainRule, Rewrite, Throttle,
    TopicMap, TopicRule, TopicRuleError, Unmapped,
};
use headgate_model::{Qos, Topic};
use proptest::prelude::*;
use std::time::Duration;

fn rule(line: &str) -> TopicRule {
    line.parse().unwrap()
}

fn map(lines: &[&str]) -> TopicMap {
    let rules: Vec<TopicRule> = lines.iter().map(|line| rule(line)).collect();
    TopicMap::compile(&rules).unwrap()
}

fn fault(line: &str) -> TopicRuleError {
    match line.parse::<TopicRule>() {
        Err(error) => error,
        Ok(rule) => TopicMap::compile(&[rule]).unwrap_err().1,
    }
}

fn topic(text: &str) -> Topic {
    Topic::try_from(text).unwrap()
}

fn out(map: &TopicMap, text: &str) -> Option<String> {
    map.outgoing(&topic(text))
        .ok()
        .map(|mapped| mapped.topic.to_string())
}

fn back(map: &TopicMap, text: &str) -> Option<String> {
    map.incoming(&topic(text))
        .ok()
        .map(|mapped| mapped.topic.to_string())
}

/// `topic pattern [[[out|in|both] qos] local-prefix remote-prefix]`: words may be left off from the right; out and 0 are the defaults.
#[test]
fn a_line_is_read_as_mosquitto_reads_it() {
    let short = rule("sensors/#");
    assert_eq!((short.direction, short.qos), (Direction::Out, 0));
    assert_eq!((&*short.local_prefix, &*short.remote_prefix), ("", ""));
    let long = rule("sensors/# both 2 local/ remote/");
    assert_eq!((long.direction, long.qos), (Direction::Both, 2));
    assert_eq!((&*long.local_prefix, &*long.remote_prefix), ("local/", "remote/"));
    assert_eq!(rule("topic # in 1 \"\" site/").remote_prefix, "site/");
    assert_eq!(rule("topic # in 1 \"\" site/").local_prefix, "");
    assert_eq!(rule("topic out 1").filter, "topic", "a topic of that name");
    assert_eq!(rule("topic topic out 1").filter, "topic");
}

#[test]
fn what_is_wrong_with_a_line_is_named() {
    assert_eq!(fault(""), TopicRuleError::Empty);
    assert_eq!(fault("a up"), TopicRuleError::Direction("up".into()));
    assert_eq!(fault("a out 3"), TopicRuleError::Qos("3".into()));
    assert_eq!(fault("a out 1 l r x"), TopicRuleError::TooMany("x".into()));
    assert!(matches!(fault("a out 1 l+/ r/"), TopicRuleError::Prefix { .. }));
    assert!(matches!(fault("+ out 1 l r/"), TopicRuleError::Filter { filter, .. } if filter == "l+"));
    assert!(matches!(fault("a#b"), TopicRuleError::Filter { .. }));
    assert_eq!(
        fault("$share/g/a in"),
        TopicRuleError::Special("$share/g/a".into())
    );
}

/// The table of valid combinations in mosquitto.conf(5).
#[test]
fn prefixes_combine_as_in_the_table_of_mosquitto() {
    for (line, local, remote) in [
        ("p out 0 L/ R/", "L/p", "R/p"),
        ("p out 0 L/ \"\"", "L/p", "p"),
        ("p out 0 \"\" R/", "p", "R/p"),
        ("p out 0 \"\" \"\"", "p", "p"),
        ("\"\" out 0 L R", "L", "R"),
    ] {
        assert_eq!(out(&map(&[line]), local).as_deref(), Some(remote), "{line}");
    }
    for line in ["\"\" out 0 L \"\"", "\"\" out 0 \"\" R", "\"\" out 0 \"\" \"\""] {
        assert_eq!(fault(line), TopicRuleError::EmptyFilter, "{line}");
    }
}

#[test]
fn each_direction_carries_its_own_topics() {
    let lines = ["o/# out 1 l/ r/", "i/# in 2 l/ r/", "b/# both 0 l/ r/"];
    let map = map(&lines);
    assert_eq!(out(&map, "l/o/x").as_deref(), Some("r/o/x"));
    assert_eq!(out(&map, "l/i/x"), None);
    assert_eq!(back(&map, "r/i/x").as_deref(), Some("l/i/x"));
    assert_eq!(back(&map, "r/o/x"), None);
    assert_eq!(back(&map, "r/b").as_deref(), Some("l/b"), "`b/#` matches `b`");
    let local: Vec<String> = map.local_subscriptions().iter().map(|s| s.to_text()).collect();
    assert_eq!(local, ["l/o/#", "l/b/#"]);
    let remote = map.remote_subscriptions();
    let remote: Vec<(&str, Qos)> = remote.iter().map(|(f, q)| (f.as_str(), *q)).collect();
    assert_eq!(remote, [("r/i/#", Qos::ExactlyOnce), ("r/b/#", Qos::AtMostOnce)]);
    let unwanted = map.remote_unwanted();
    assert_eq!(unwanted.iter().map(|f| f.as_str()).collect::<Vec<_>>(), ["r/o/#"]);
}

#[test]
fn the_first_rule_that_matches_gives_the_name() {
    let map = map(&[
        "a/b out 2 \"\" first/",
        "a/# out 1 \"\" second/",
        "a/b out 0 \"\" third/",
    ]);
    let mapped = map.outgoing(&topic("a/b")).unwrap();
    assert_eq!(
        (mapped.topic.as_str(), mapped.qos, mapped.rule),
        ("first/a/b", Qos::ExactlyOnce, 0)
    );
    assert_eq!(out(&map, "a/c").as_deref(), Some("second/a/c"));
    assert_eq!(map.outgoing(&topic("b")), Err(Unmapped::NoRule));
    let subscriptions = map.local_subscriptions();
    let qos = subscriptions.iter().map(|s| (s.filter.as_str(), s.options.qos));
    let expected = [("a/b", Qos::ExactlyOnce), ("a/#", Qos::AtLeastOnce)];
    assert_eq!(
        qos.collect::<Vec<_>>(),
        expected,
        "each filter once, at its highest QoS"
    );
}

/// [MQTT-4.7.1-2] `l/#` also matches `l`, which does not lie below the prefix `l/`.
#[test]
fn the_parent_of_a_prefix_is_not_carried() {
    assert_eq!(out(&map(&["# out 0 l/ r/"]), "l"), None);
}

/// [MQTT-4.7.3-3]
#[test]
fn a_name_that_would_be_too_long_is_none() {
    let long = "x".repeat(65_500);
    let map = map(&[&format!("# out 0 \"\" {}/", "r".repeat(100))]);
    assert!(matches!(map.outgoing(&topic(&long)), Err(Unmapped::Invalid(_))));
}

#[test]
fn names_are_rewritten_after_the_prefixes() {
    let rewrite = |pattern: &str, target: &str, direction| TopicRule {
        rewrite: Some(Rewrite {
            pattern: pattern.into(),
            target: target.into(),
        }),
        direction,
        ..rule("# out 1 l/ r/")
    };
    let swapped =
        TopicMap::compile(&[rewrite("^r/([^/]+)/(.+)$", "dt/$2/from/$1x", Direction::Out)]).unwrap();
    assert_eq!(
        out(&swapped, "l/plant/valve").as_deref(),
        Some("dt/valve/from/plantx")
    );
    assert_eq!(
        out(&swapped, "l/plant").as_deref(),
        Some("r/plant"),
        "where the pattern does not match"
    );
    let emptied = TopicMap::compile(&[rewrite("^r/(.*)$", "", Direction::Out)]).unwrap();
    assert!(matches!(
        emptied.outgoing(&topic("l/a")),
        Err(Unmapped::Invalid(_))
    ));
    let wild = TopicMap::compile(&[rewrite("^r/(.*)$", "a/#", Direction::Out)]).unwrap();
    assert!(matches!(wild.outgoing(&topic("l/a")), Err(Unmapped::Invalid(_))));
    let both = TopicMap::compile(&[rewrite("^r/(.*)$", "$1", Direction::Both)]).unwrap_err();
    assert_eq!(both, (0, TopicRuleError::RewriteBoth));
    let bad = TopicMap::compile(&[rewrite("(", "$1", Direction::Out)])
        .unwrap_err()
        .1;
    assert!(matches!(bad, TopicRuleError::Pattern { .. }));
}

#[test]
fn a_throttle_is_for_what_goes_out_and_lets_something_pass() {
    let throttled = |line: &str, throttle| {
        let rule = TopicRule {
            throttle: Some(throttle),
            ..rule(line)
        };
        TopicMap::compile(&[rule]).map(|_| ()).map_err(|(_, error)| error)
    };
    assert_eq!(throttled("a both", Throttle::PerMinute(1)), Ok(()));
    assert_eq!(
        throttled("a in", Throttle::PerMinute(1)),
        Err(TopicRuleError::ThrottleIn)
    );
    assert!(throttled("a out", Throttle::PerMinute(0)).is_err());
    assert!(throttled("a out", Throttle::LastValueEvery(Duration::ZERO)).is_err());
}

#[test]
fn settings_take_lines_and_tables() {
    let settings: BridgeSettings = toml::from_str(
        r#"
        name = "up"
        keep_alive = "30s"
        topics = [
            "sensors/# out 1 local/ remote/",
            { filter = "cmd/#", direction = "in", qos = 2, retain = "never", priority = 3 },
            { filter = "raw/#", throttle = { last_value_every = "10s" } },
        ]
        queue = { max_age = "72h", when_full = "refuse" }
        uplink = { start = "window", windows = ["22:00-06:00"] }
        "#,
    )
    .unwrap();
    assert_eq!(settings.topics[0], rule("sensors/# out 1 local/ remote/"));
    assert_eq!(
        (settings.topics[1].retain, settings.topics[1].qos),
        (RetainRule::Never, 2)
    );
    assert_eq!(
        settings.topics[2].throttle,
        Some(Throttle::LastValueEvery(Duration::from_secs(10)))
    );
    settings.check().unwrap();
    let written = toml::to_string(&settings).unwrap();
    assert_eq!(
        toml::from_str::<BridgeSettings>(&written).unwrap(),
        settings,
        "and are written as tables"
    );
    let error = toml::from_str::<BridgeSettings>("topics = [\"a up\"]").unwrap_err();
    assert!(error.to_string().contains("`up` is no direction"), "{error}");
    let error = toml::from_str::<BridgeSettings>("topics = [{ filter = \"a\", qps = 1 }]").unwrap_err();
    assert!(error.to_string().contains("qps"), "{error}");
}

#[test]
fn settings_out_of_range_are_named_with_what_is_allowed() {
    let named = || BridgeSettings {
        name: "up".into(),
        ..BridgeSettings::default()
    };
    assert_eq!(named().check(), Ok(()));
    type Change = fn(&mut BridgeSettings);
    let cases: [(Change, &str); 7] = [
        (|s| s.name.clear(), "name: `` must not be empty"),
        (|s| s.name = "a/b".into(), "name: `a/b` must not hold"),
        (
            |s| s.keep_alive = std::time::Duration::from_secs(4),
            "keep_alive: 4s is out of range, allowed is 5s to 65535s",
        ),
        (|s| s.max_qos = 3, "max_qos: 3 is out of range, allowed is 0 to 2"),
        (
            |s| s.stalled_after = std::time::Duration::ZERO,
            "stalled_after: 0s is out of range, allowed is 1s to 1h",
        ),
        (
            |s| s.queue.max_bytes = 1_000,
            "queue.max_bytes: 1000 is out of range, allowed is 0, 1024 or more",
        ),
        (
            |s| s.uplink.restart_timeout.cap = std::time::Duration::from_secs(1),
            "uplink.restart_timeout.cap: 1s is out of range, allowed is base to 1day",
        ),
    ];
    for (change, expected) in cases {
        let mut settings = named();
        change(&mut settings);
        let error = settings.check().unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let bad = BridgeSettings {
        topics: vec![rule("a"), TopicRule::default()],
        ..named()
    };
    let error = BridgePlan::new(bad, "here").unwrap_err();
    assert!(matches!(
        error,
        BridgeSettingsError::Topics {
            at: 1,
            cause: TopicRuleError::EmptyFilter
        }
    ));
}

fn level() -> impl Strategy<Value = String> {
    "[a-zé0-9 ]{0,4}"
}

fn name() -> impl Strategy<Value = String> {
    prop::collection::vec(level(), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a topic has a character", |name| !name.is_empty())
}

fn prefix() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), name().prop_map(|name| name + "/")]
}

proptest! {
    /// What went out comes in under the name it had.
    #[test]
    fn in_after_out_is_the_identity(local in prefix(), remote in prefix(), name in name()) {
        let rule = TopicRule {
            filter: "#".into(),
            direction: Direction::Both,
            local_prefix: local.clone(),
            remote_prefix: remote,
            ..TopicRule::default()
        };
        let map = TopicMap::compile(&[rule]).unwrap();
        let original = topic(&format!("{local}{name}"));
        let there = map.outgoing(&original).unwrap().topic;
        let back = map.incoming(&there).unwrap().topic;
        prop_assert_eq!(back, original);
    }

    /// Any line at all is a rule or an error.
    #[test]
    fn any_line_is_read_or_refused(line in "[ a-z#+/$\"0-3]{0,40}") {
        if let Ok(rule) = line.parse::<TopicRule>() {
            let _ = TopicMap::compile(&[rule]);
        }
    }
}

/// `0` is no limit, as in the limits of the bus.
#[test]
fn zero_is_no_limit_of_the_queue() {
    let settings = BridgeSettings {
        queue: QueueSettings {
            max_messages: 0,
            max_bytes: 0,
            ..QueueSettings::default()
        },
        name: "up".into(),
        ..BridgeSettings::default()
    };
    assert_eq!(settings.check(), Ok(()));
    let plan = BridgePlan::new(settings, "here").unwrap();
    let rules = plan.open(1, "").link.unwrap().queue.unwrap();
    assert_eq!((rules.max_messages, rules.max_bytes), (usize::MAX, usize::MAX));
}
