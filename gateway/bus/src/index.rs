//! The subscription index: which subscriptions match a topic name. MQTT 5 §4.7.
//!
//! Filters without wildcard are found by one hash look-up, the others in a [trie](crate::trie). Always true: a leaf in `exact` has a subscriber. A group has
//! a member, and its leaf names it at [`Group::place`].
//!
//! Adding and removing a group takes the same time however many groups share its filter: one client may open thousands of them.

use crate::members::Members;
use crate::sessions::Slot;
use crate::trie::Trie;
use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use headgate_model::{
    MountPoint, Qos, Share, Subscription, SubscriptionName, SubscriptionOptions, TopicFilter,
};
use std::hash::BuildHasher;
use std::sync::Arc;

/// One subscriber of one filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub session: Slot,
    /// Subscription identifier, zero for none.
    pub identifier: u32,
    pub qos: Qos,
    pub no_local: bool,
    pub retain_as_published: bool,
    /// See [`SubscriptionOptions::by_identifier`].
    by_identifier: bool,
}

const _: () = assert!(size_of::<Entry>() <= 12, "an index holds a million of these");

impl Entry {
    pub(crate) fn new(session: Slot, options: &SubscriptionOptions) -> Self {
        Self {
            session,
            identifier: options.identifier,
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            by_identifier: options.by_identifier,
        }
    }

    /// What tells it apart from others of its session; zero for the only one.
    pub(crate) fn label(&self) -> u32 {
        if self.by_identifier { self.identifier } else { 0 }
    }
}

/// A shared subscription, by a number that is never given twice.
pub(crate) type GroupId = u32;

/// What a shared subscription is called in the store: as its members would write it.
fn group_name(filter: &TopicFilter, share: &Share) -> Arc<str> {
    match share {
        Share::Group(group) => format!("$share/{}/{filter}", String::from_utf8_lossy(group)).into(),
        Share::Queue => format!("$queue/{filter}").into(),
    }
}

/// The members of one shared subscription. MQTT 5 §4.8.2.
#[derive(Debug)]
pub(crate) struct Group {
    filter: TopicFilter,
    share: Share,
    /// Where its leaf names it.
    place: usize,
    /// As queue entries name it in the store.
    pub name: Arc<str>,
    pub members: Members<(Slot, u32)>,
    /// The place behind the member that got a message last; zero when there is none.
    pub cursor: u32,
}

/// Who subscribed to one filter.
#[derive(Debug, Default)]
pub(crate) struct Leaf {
    plain: Members<Slot>,
    rest: Option<Box<Rest>>,
}

/// What few filters have: subscribers that are told apart by a label, and groups.
#[derive(Debug, Default)]
struct Rest {
    labelled: Members<(Slot, u32)>,
    groups: Vec<GroupId>,
}

impl Rest {
    fn is_empty(&self) -> bool {
        self.labelled.is_empty() && self.groups.is_empty()
    }
}

impl Leaf {
    pub(crate) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.rest.is_none()
    }

    fn put(&mut self, entry: Entry, known: bool) {
        match entry.label() {
            0 => self.plain.put(entry, known),
            _ => self.rest.get_or_insert_default().labelled.put(entry, known),
        }
    }

    /// Whether it was there.
    fn take(&mut self, session: Slot, label: u32) -> bool {
        if label == 0 {
            return self.plain.take(session).is_some();
        }
        let rest = self.rest.as_mut();
        let gone = rest.and_then(|rest| rest.labelled.take((session, label)));
        self.rest = self.rest.take().filter(|rest| !rest.is_empty());
        gone.is_some()
    }

    /// Where it is among the groups.
    fn add_group(&mut self, id: GroupId) -> usize {
        let groups = &mut self.rest.get_or_insert_default().groups;
        groups.push(id);
        groups.len() - 1
    }

    /// Which group has this place now.
    fn remove_group(&mut self, place: usize) -> Option<GroupId> {
        let groups = &mut self.rest.as_mut()?.groups;
        groups.swap_remove(place);
        let moved = groups.get(place).copied();
        self.rest = self.rest.take().filter(|rest| !rest.is_empty());
        moved
    }
}

/// What a topic name matches. Reused from publish to publish.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    pub plain: Vec<Entry>,
    pub groups: Vec<GroupId>,
    /// Nodes of the trie that were looked at.
    pub visited: usize,
}

impl Matches {
    pub(crate) fn take(&mut self, leaf: &Leaf) {
        self.plain.extend_from_slice(&leaf.plain);
        if let Some(rest) = &leaf.rest {
            self.plain.extend_from_slice(&rest.labelled);
            self.groups.extend_from_slice(&rest.groups);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.plain.clear();
        self.groups.clear();
        self.visited = 0;
    }
}

/// All subscriptions of the gateway.
#[derive(Debug)]
pub(crate) struct Index {
    exact: HashMap<Bytes, Leaf>,
    trie: Trie,
    groups: HashMap<GroupId, Group>,
    /// The same by filter and share, which are in the group.
    names: HashTable<GroupId>,
    hasher: DefaultHashBuilder,
    next_group: GroupId,
    filters: usize,
    /// Filters that one session has for itself.
    exclusive: HashMap<TopicFilter, Slot>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            trie: Trie::default(),
            groups: HashMap::new(),
            names: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            next_group: 1,
            filters: 0,
            exclusive: HashMap::new(),
        }
    }
}

impl Index {
    /// Distinct filters with at least one subscriber.
    pub(crate) fn filters(&self) -> usize {
        self.filters
    }

    pub(crate) fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id)
    }

    pub(crate) fn group_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.groups.get_mut(&id)
    }

    /// Adds a subscriber, or gives an existing one new options.
    /// `known` when the session already holds it: only then is it searched for.
    pub(crate) fn insert(&mut self, filter: &TopicFilter, share: Option<&Share>, entry: Entry, known: bool) {
        let was_empty = self.leaf(filter).is_none_or(Leaf::is_empty);
        self.filters += usize::from(was_empty);
        match share {
            None => self.leaf_mut(filter).put(entry, known),
            Some(share) => {
                let id = self
                    .find_group(filter, share)
                    .unwrap_or_else(|| self.new_group(filter, share));
                let group = self.groups.get_mut(&id).expect("a leaf names living groups");
                group.members.put(entry, known);
            }
        }
    }

    /// Takes a subscriber out. Whether it was there.
    pub(crate) fn remove(&mut self, (filter, share, label): SubscriptionName<'_>, session: Slot) -> bool {
        let gone = match share {
            None => self
                .existing_leaf_mut(filter)
                .is_some_and(|leaf| leaf.take(session, label)),
            Some(share) => self
                .find_group(filter, share)
                .is_some_and(|id| self.leave_group(filter, id, (session, label))),
        };
        if gone && self.leaf(filter).is_none_or(Leaf::is_empty) {
            self.filters -= 1;
            self.prune(filter);
        }
        gone
    }

    /// The session that has this filter for itself.
    /// Whether anybody has subscribed to this very filter.
    pub(crate) fn has(&self, filter: &TopicFilter) -> bool {
        self.leaf(filter).is_some_and(|leaf| !leaf.is_empty())
    }

    pub(crate) fn exclusive_holder(&self, filter: &TopicFilter) -> Option<Slot> {
        self.exclusive.get(filter).copied()
    }

    pub(crate) fn hold_exclusively(&mut self, filter: &TopicFilter, session: Slot) {
        self.exclusive.insert(filter.clone(), session);
    }

    pub(crate) fn free_exclusive(&mut self, filter: &TopicFilter) {
        self.exclusive.remove(filter);
    }

    /// Collects every subscription that matches `name`. \[MQTT-3.3.2-3\], `$` rule \[MQTT-4.7.2-1\].
    pub(crate) fn collect(&self, name: &[u8], found: &mut Matches) {
        if let Some(leaf) = self.exact.get(name) {
            found.take(leaf);
        }
        self.trie.collect(name, found);
    }

    fn leaf(&self, filter: &TopicFilter) -> Option<&Leaf> {
        if filter.has_wildcard() {
            self.trie.leaf(filter)
        } else {
            self.exact.get(filter.as_bytes())
        }
    }

    fn existing_leaf_mut(&mut self, filter: &TopicFilter) -> Option<&mut Leaf> {
        self.leaf(filter)?;
        Some(self.leaf_mut(filter))
    }

    fn leaf_mut(&mut self, filter: &TopicFilter) -> &mut Leaf {
        if filter.has_wildcard() {
            return self.trie.leaf_mut(filter);
        }
        // The key is a copy of its own: a kept slice would keep a whole read buffer.
        let key = Bytes::copy_from_slice(filter.as_bytes());
        self.exact.entry(key).or_default()
    }

    /// Takes away the leaf of `filter`, which has no subscriber.
    fn prune(&mut self, filter: &TopicFilter) {
        if filter.has_wildcard() {
            self.trie.prune(filter);
        } else {
            self.exact.remove(filter.as_bytes());
        }
    }

    /// Bytes of the trie; what a filter without wildcards takes is the same for all.
    pub(crate) fn trie_bytes(&self) -> usize {
        self.trie.bytes()
    }

    /// The shared subscription of this name.
    pub(crate) fn find_group_by_name(&self, name: &str) -> Option<GroupId> {
        let text = Bytes::copy_from_slice(name.as_bytes());
        let parsed =
            Subscription::parse(&text, SubscriptionOptions::default(), &MountPoint::default()).ok()?;
        self.find_group(&parsed.filter, parsed.share.as_ref()?)
    }

    pub(crate) fn find_group(&self, filter: &TopicFilter, share: &Share) -> Option<GroupId> {
        let hash = self.hasher.hash_one((filter, share));
        let is_it = |id: &GroupId| {
            let group = &self.groups[id];
            group.filter == *filter && group.share == *share
        };
        self.names.find(hash, is_it).copied()
    }

    fn new_group(&mut self, filter: &TopicFilter, share: &Share) -> GroupId {
        let id = self.next_group;
        self.next_group += 1;
        let place = self.leaf_mut(filter).add_group(id);
        self.groups.insert(
            id,
            Group {
                filter: filter.clone(),
                share: share.clone(),
                place,
                name: group_name(filter, share),
                members: Members::default(),
                cursor: 0,
            },
        );
        let hash = |group: &Group| self.hasher.hash_one((&group.filter, &group.share));
        self.names
            .insert_unique(hash(&self.groups[&id]), id, |id| hash(&self.groups[id]));
        id
    }

    /// A group without members goes; the last one of its leaf takes its place there.
    fn remove_group(&mut self, filter: &TopicFilter, id: GroupId) {
        let Some(group) = self.groups.remove(&id) else {
            return;
        };
        let hash = self.hasher.hash_one((&group.filter, &group.share));
        if let Ok(entry) = self.names.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        if let Some(moved) = self.leaf_mut(filter).remove_group(group.place)
            && let Some(moved) = self.groups.get_mut(&moved)
        {
            moved.place = group.place;
        }
    }

    fn leave_group(&mut self, filter: &TopicFilter, id: GroupId, member: (Slot, u32)) -> bool {
        let group = self.groups.get_mut(&id).expect("a leaf names living groups");
        let gone = group.members.take(member);
        // Where the last one has its place now, the cursor goes with it.
        match (gone, group.cursor as usize) {
            (Some(place), cursor) if place + 1 == cursor => group.cursor = 0,
            (Some(place), cursor) if cursor == group.members.len() + 1 => group.cursor = place as u32 + 1,
            _ => {}
        }
        if group.members.is_empty() {
            self.remove_group(filter, id);
        }
        gone.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trie::NODE;
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn entry(session: Slot) -> Entry {
        Entry::new(session, &SubscriptionOptions::default())
    }

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::try_from(text).unwrap()
    }

    fn matching(index: &Index, name: &str) -> Vec<Slot> {
        let mut found = Matches::default();
        index.collect(name.as_bytes(), &mut found);
        let mut sessions: Vec<Slot> = found.plain.iter().map(|e| e.session).collect();
        for group in &found.groups {
            sessions.extend(index.group(*group).unwrap().members.iter().map(|e| e.session));
        }
        sessions.sort_unstable();
        sessions
    }

    #[test]
    fn exact_and_wildcard_subscriptions_are_found_together() {
        let mut index = Index::default();
        for (session, text) in [
            (1, "a/b"),
            (2, "a/+"),
            (3, "a/#"),
            (4, "#"),
            (5, "+/b"),
            (6, "a/b/c"),
        ] {
            index.insert(&filter(text), None, entry(session), false);
        }
        assert_eq!(matching(&index, "a/b"), [1, 2, 3, 4, 5]);
        assert_eq!(matching(&index, "a"), [3, 4]);
        assert_eq!(matching(&index, "a/b/c"), [3, 4, 6]);
        assert_eq!(matching(&index, "$SYS/b"), [0; 0]);
        assert_eq!(index.filters(), 6);
    }

    #[test]
    fn a_group_is_one_subscription_with_several_members() {
        let mut index = Index::default();
        let share = Share::Group(Bytes::from_static(b"g"));
        index.insert(&filter("t/+"), Some(&share), entry(1), false);
        index.insert(&filter("t/+"), Some(&share), entry(2), false);
        index.insert(&filter("t/+"), None, entry(3), false);
        assert_eq!(matching(&index, "t/x"), [1, 2, 3]);
        assert_eq!(index.filters(), 1);
        assert!(index.remove((&filter("t/+"), Some(&share), 0), 1));
        assert!(!index.remove((&filter("t/+"), Some(&share), 0), 1));
        assert!(index.remove((&filter("t/+"), Some(&share), 0), 2));
        assert!(index.remove((&filter("t/+"), None, 0), 3));
        assert_eq!((index.filters(), index.groups.len()), (0, 0));
    }

    /// Whatever the order in which groups of one filter end, those that stay are found.
    #[test]
    fn groups_of_one_filter_come_and_go() {
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
            let mut index = Index::default();
            let shares: Vec<Share> = ["a", "b", "c", "d"].map(|name| Share::Group(name.into())).into();
            for (slot, share) in (0..).zip(&shares) {
                index.insert(&filter("t"), Some(share), entry(slot), false);
            }
            let mut left = vec![0, 1, 2, 3];
            for gone in order {
                assert!(index.remove((&filter("t"), Some(&shares[gone as usize]), 0), gone));
                left.retain(|slot| *slot != gone);
                assert_eq!(matching(&index, "t"), left);
                let known = shares
                    .iter()
                    .filter(|share| index.find_group(&filter("t"), share).is_some());
                assert_eq!(known.count(), left.len());
            }
            assert_eq!(
                (index.filters(), index.groups.len(), index.names.len()),
                (0, 0, 0)
            );
        }
    }

    fn level() -> impl Strategy<Value = String> {
        prop_oneof![
            Just(String::new()),
            Just("a".to_owned()),
            Just("b".to_owned()),
            Just("$x".to_owned())
        ]
    }

    fn name() -> impl Strategy<Value = String> {
        proptest::collection::vec(level(), 1..5)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("a name is not empty", |name| !name.is_empty())
    }

    fn any_filter() -> impl Strategy<Value = String> {
        let level = prop_oneof![3 => level(), 1 => Just("+".to_owned())];
        (proptest::collection::vec(level, 0..5), any::<bool>())
            .prop_map(|(mut levels, rest)| {
                if rest || levels.is_empty() {
                    levels.push("#".to_owned());
                }
                levels.join("/")
            })
            .prop_filter("a filter is not empty", |text| !text.is_empty())
    }

    proptest! {
        /// The trie agrees with matching each filter by itself, and is empty again when everyone has left.
        #[test]
        fn the_trie_agrees_with_the_definition(
            filters in proptest::collection::vec(any_filter(), 1..20),
            removed in proptest::collection::vec(any::<bool>(), 20),
            names in proptest::collection::vec(name(), 1..10),
        ) {
            let mut index = Index::default();
            let mut model: BTreeSet<(Slot, String)> = BTreeSet::new();
            for (slot, text) in (0..).zip(&filters) {
                index.insert(&filter(text), None, entry(slot), false);
                model.insert((slot, text.clone()));
            }
            for ((slot, text), gone) in (0..).zip(&filters).zip(&removed) {
                if *gone {
                    prop_assert!(index.remove((&filter(text), None, 0), slot));
                    model.remove(&(slot, text.clone()));
                }
            }
            for name in &names {
                let expected: Vec<Slot> =
                    model.iter().filter(|(_, f)| filter(f).matches(name.as_bytes())).map(|(s, _)| *s).collect();
                prop_assert_eq!(matching(&index, name), expected, "{}", name);
            }
            for (slot, text) in model {
                prop_assert!(index.remove((&filter(&text), None, 0), slot));
            }
            prop_assert_eq!(index.filters(), 0);
            prop_assert!(index.exact.is_empty());
            prop_assert_eq!((index.trie.nodes(), index.trie.bytes() % NODE), (0, 0), "only the root is left");
        }
    }
}
