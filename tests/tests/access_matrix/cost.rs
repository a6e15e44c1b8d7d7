//! What rules cost: how often they are asked. Nobody waits long for what one client, or one change of the rules, makes of them.

use headgate_bus::RulesChange;
use headgate_model::access::AccessQuery;
use headgate_model::bus::Presence;
use headgate_model::{AccessDecision, AccessPolicy, ClientId, Naming, Qos, SubscriptionOptions};
use headgate_tests::bus_bench::{BusBench, message, opening, subscription};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Nothing below `deny/` may be read. Counts how often it is asked.
#[derive(Debug, Default)]
struct Counting {
    reads: AtomicUsize,
    filters: AtomicUsize,
    renewals: AtomicUsize,
}

#[derive(Debug)]
struct Rules(Arc<Counting>);

impl AccessPolicy for Rules {
    fn check(&self, _: AccessQuery<'_>) -> AccessDecision {
        AccessDecision::Allow
    }

    fn narrows(&self, filter: &[u8]) -> bool {
        self.0.filters.fetch_add(1, Ordering::Relaxed);
        filter == b"#"
    }

    fn may_read(&self, topic: &[u8]) -> bool {
        self.0.reads.fetch_add(1, Ordering::Relaxed);
        !topic.starts_with(b"deny/")
    }

    fn renewed(&self, _: &ClientId, _: &Presence) -> Option<Arc<dyn AccessPolicy>> {
        self.0.renewals.fetch_add(1, Ordering::Relaxed);
        Some(Arc::new(Self(Arc::clone(&self.0))))
    }
}

/// So many clients with these filters, all with the same rules.
fn bench(clients: usize, filters: &[String], policy: &Arc<dyn AccessPolicy>) -> BusBench {
    let mut bench = BusBench::new("node", Default::default());
    bench.connect("plant");
    for n in 0..clients {
        let id = format!("c{n}");
        let mut open = opening(&id, None);
        let client = ClientId::from(id.as_str());
        let entrant = Naming::default()
            .gate(&client, Some(policy))
            .enter(Presence::default());
        open.client = entrant.expect("not reserved");
        bench.open(open);
        for filter in filters {
            bench.send(&id, subscription(filter, SubscriptionOptions::default()));
        }
    }
    bench
}

/// A filter that meets no denying rule pays nothing. Many readers with the same rules are one question, in a shared group too, also when none may read it.
#[test]
fn many_readers_with_the_same_rules_are_one_question() {
    for (filter, asked) in [("#", 1), ("$share/g/#", 1), ("deny/x", 0)] {
        let count = Arc::new(Counting::default());
        let policy: Arc<dyn AccessPolicy> = Arc::new(Stable(Rules(Arc::clone(&count))));
        let mut bench = bench(1_000, &[filter.to_owned()], &policy);
        bench.publish("plant", message("deny/x", "1", Qos::AtMostOnce));
        assert_eq!(count.reads.load(Ordering::Relaxed), asked, "{filter}");
    }
}

/// Rules that do not change.
#[derive(Debug)]
struct Stable(Rules);

impl AccessPolicy for Stable {
    fn check(&self, query: AccessQuery<'_>) -> AccessDecision {
        self.0.check(query)
    }

    fn narrows(&self, filter: &[u8]) -> bool {
        self.0.narrows(filter)
    }

    fn may_read(&self, topic: &[u8]) -> bool {
        self.0.may_read(topic)
    }
}

/// A change of the rules goes through the sessions in slices, short ones where there are many filters.
#[test]
fn rules_are_renewed_in_slices() {
    for filters in [0, 1, 200, 300] {
        let count = Arc::new(Counting::default());
        let policy: Arc<dyn AccessPolicy> = Arc::new(Rules(Arc::clone(&count)));
        let filters: Vec<String> = (0..filters).map(|n| format!("a/{n}")).collect();
        let mut bench = bench(100, &filters, &policy);
        let mut next = Some(RulesChange::default());
        let mut renewed = 0;
        while let Some(change) = next {
            let before = [&count.renewals, &count.filters].map(|n| n.load(Ordering::Relaxed));
            bench.turn(|bus, now, out| next = bus.renew_rules(change, now, out));
            let after = [&count.renewals, &count.filters].map(|n| n.load(Ordering::Relaxed));
            assert!(after[0] - before[0] <= 2 * 32, "sessions at once");
            assert!(after[1] - before[1] <= 2 * 256, "filters at once");
            renewed += after[0] - before[0];
        }
        assert!(renewed >= 100, "all of them");
    }
}
