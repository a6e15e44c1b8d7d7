//! The subscription index: which subscriptions match a topic name. MQTT 5 §4.7.
//!
//! Filters without wildcard are found by one hash look-up, the others in a trie of levels. Always true: a node of the trie has a child, a
//! subscriber or both, or it is the root; a leaf in `exact` has a subscriber. A group has a member, and its leaf names it at [`Group::place`].
//!
//! Adding and removing a group takes the same time however many groups share its filter: one client may open thousands of them.

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use headgate_model::{MountPoint, Qos, Share, Subscription, SubscriptionOptions, TopicFilter};
use std::hash::BuildHasher;
use std::sync::Arc;

/// Where a session lives in the bus's table. Given again after the session ended.
pub type Slot = u32;

/// One subscriber of one filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub session: Slot,
    /// Subscription identifier, zero for none.
    pub identifier: u32,
    pub qos: Qos,
    pub no_local: bool,
    pub retain_as_published: bool,
}

const _: () = assert!(size_of::<Entry>() <= 12, "an index holds a million of these");

impl Entry {
    pub fn new(session: Slot, options: &SubscriptionOptions) -> Self {
        Self {
            session,
            identifier: options.identifier,
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
        }
    }
}

/// A shared subscription, by a number that is never given twice.
pub type GroupId = u32;

/// What a shared subscription is called in the store: as its members would write it.
fn group_name(filter: &TopicFilter, share: &Share) -> Arc<str> {
    match share {
        Share::Group(group) => format!("$share/{}/{filter}", String::from_utf8_lossy(group)).into(),
        Share::Queue => format!("$queue/{filter}").into(),
    }
}

/// The members of one shared subscription. MQTT 5 §4.8.2.
#[derive(Debug)]
pub struct Group {
    filter: TopicFilter,
    share: Share,
    /// Where its leaf names it.
    place: usize,
    /// As queue entries name it in the store.
    pub name: Arc<str>,
    pub members: Vec<Entry>,
    /// The place behind the member that got a message last; zero when there is none.
    pub cursor: u32,
}

#[derive(Debug, Default)]
struct Leaf {
    plain: Vec<Entry>,
    groups: Vec<GroupId>,
}

impl Leaf {
    fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.groups.is_empty()
    }
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<[u8]>, u32>,
    /// The child for `+`, zero for none: the root is nobody's child.
    any_level: u32,
    /// Subscribers whose filter ends here.
    here: Leaf,
    /// Subscribers whose filter ends with `#` below here.
    rest: Leaf,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.any_level == 0 && self.here.is_empty() && self.rest.is_empty()
    }
}

/// What a topic name matches. Reused from publish to publish.
#[derive(Debug, Default)]
pub struct Matches {
    pub plain: Vec<Entry>,
    pub groups: Vec<GroupId>,
    /// Nodes of the trie that were looked at.
    pub visited: usize,
}

impl Matches {
    fn take(&mut self, leaf: &Leaf) {
        self.plain.extend_from_slice(&leaf.plain);
        self.groups.extend_from_slice(&leaf.groups);
    }

    pub fn clear(&mut self) {
        self.plain.clear();
        self.groups.clear();
        self.visited = 0;
    }
}

/// All subscriptions of the gateway.
#[derive(Debug)]
pub struct Index {
    exact: HashMap<Bytes, Leaf>,
    nodes: Vec<Node>,
    free: Vec<u32>,
    groups: HashMap<GroupId, Group>,
    /// The same by filter and share, which are in the group.
    names: HashTable<GroupId>,
    hasher: DefaultHashBuilder,
    next_group: GroupId,
    filters: usize,
}

const ROOT: u32 = 0;

impl Default for Index {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            nodes: vec![Node::default()],
            free: Vec::new(),
            groups: HashMap::new(),
            names: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            next_group: 1,
            filters: 0,
        }
    }
}

impl Index {
    /// Distinct filters with at least one subscriber.
    pub fn filters(&self) -> usize {
        self.filters
    }

    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id)
    }

    pub fn group_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.groups.get_mut(&id)
    }

    /// Adds a subscriber, or gives an existing one new options.
    /// `known` when the session already holds it: only then is it searched for.
    pub fn insert(&mut self, filter: &TopicFilter, share: Option<&Share>, entry: Entry, known: bool) {
        let was_empty = self.leaf(filter).is_none_or(Leaf::is_empty);
        self.filters += usize::from(was_empty);
        match share {
            None => put(&mut self.leaf_mut(filter).plain, entry, known),
            Some(share) => {
                let id = self
                    .find_group(filter, share)
                    .unwrap_or_else(|| self.new_group(filter, share));
                let group = self.groups.get_mut(&id).expect("a leaf names living groups");
                put(&mut group.members, entry, known);
            }
        }
    }

    /// Takes a subscriber out. Whether it was there.
    pub fn remove(&mut self, filter: &TopicFilter, share: Option<&Share>, session: Slot) -> bool {
        let gone = match share {
            None => self
                .existing_leaf_mut(filter)
                .is_some_and(|leaf| take(&mut leaf.plain, session).is_some()),
            Some(share) => self
                .find_group(filter, share)
                .is_some_and(|id| self.leave_group(filter, id, session)),
        };
        if gone && self.leaf(filter).is_none_or(Leaf::is_empty) {
            self.filters -= 1;
            self.prune(filter);
        }
        gone
    }

    /// Collects every subscription that matches `name`. \[MQTT-3.3.2-3\], `$` rule \[MQTT-4.7.2-1\].
    pub fn collect(&self, name: &[u8], found: &mut Matches) {
        if let Some(leaf) = self.exact.get(name) {
            found.take(leaf);
        }
        let root = &self.nodes[ROOT as usize];
        if name.first() == Some(&b'$') {
            // A leading wildcard does not match: only the literal first level leads on.
            let (level, rest) = split(name);
            if let Some(child) = root.children.get(level) {
                self.walk(*child, rest, found);
            }
        } else if !root.is_empty() {
            self.walk(ROOT, Some(name), found);
        }
    }

    /// `rest` is `None` when the name has no further level.
    fn walk(&self, node: u32, rest: Option<&[u8]>, found: &mut Matches) {
        let node = &self.nodes[node as usize];
        found.visited += 1;
        found.take(&node.rest); // "sport/#" also matches "sport"
        let Some(rest) = rest else {
            found.take(&node.here);
            return;
        };
        let (level, rest) = split(rest);
        if node.any_level != 0 {
            self.walk(node.any_level, rest, found);
        }
        if let Some(child) = node.children.get(level) {
            self.walk(*child, rest, found);
        }
    }

    fn leaf(&self, filter: &TopicFilter) -> Option<&Leaf> {
        if !filter.has_wildcard() {
            return self.exact.get(filter.as_bytes());
        }
        let (path, ends_in_rest) = path(filter);
        let mut node = ROOT;
        for level in path {
            node = self.child(node, level)?;
        }
        let node = &self.nodes[node as usize];
        Some(if ends_in_rest { &node.rest } else { &node.here })
    }

    fn existing_leaf_mut(&mut self, filter: &TopicFilter) -> Option<&mut Leaf> {
        self.leaf(filter)?;
        Some(self.leaf_mut(filter))
    }

    fn leaf_mut(&mut self, filter: &TopicFilter) -> &mut Leaf {
        if !filter.has_wildcard() {
            // The key is a copy of its own: a kept slice would keep a whole read buffer.
            return self
                .exact
                .entry(Bytes::copy_from_slice(filter.as_bytes()))
                .or_default();
        }
        let (path, ends_in_rest) = path(filter);
        let mut node = ROOT;
        for level in path {
            node = match self.child(node, level) {
                Some(child) => child,
                None => self.new_child(node, level),
            };
        }
        let node = &mut self.nodes[node as usize];
        if ends_in_rest {
            &mut node.rest
        } else {
            &mut node.here
        }
    }

    fn child(&self, node: u32, level: &[u8]) -> Option<u32> {
        let node = &self.nodes[node as usize];
        if level == b"+" {
            return (node.any_level != 0).then_some(node.any_level);
        }
        node.children.get(level).copied()
    }

    fn new_child(&mut self, parent: u32, level: &[u8]) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            u32::try_from(self.nodes.len() - 1).expect("fewer than four billion levels")
        });
        let parent = &mut self.nodes[parent as usize];
        if level == b"+" {
            parent.any_level = id;
        } else {
            parent.children.insert(level.into(), id);
        }
        id
    }

    /// Takes away the leaf of `filter`, which has no subscriber, and every node above it that leads nowhere else.
    fn prune(&mut self, filter: &TopicFilter) {
        if !filter.has_wildcard() {
            self.exact.remove(filter.as_bytes());
            return;
        }
        let (path, _) = path(filter);
        let levels: Vec<&[u8]> = path.collect();
        let mut nodes = vec![ROOT];
        for level in &levels {
            match self.child(nodes[nodes.len() - 1], level) {
                Some(child) => nodes.push(child),
                None => return,
            }
        }
        for depth in (1..nodes.len()).rev() {
            if !self.nodes[nodes[depth] as usize].is_empty() {
                return;
            }
            self.nodes[nodes[depth] as usize] = Node::default();
            self.free.push(nodes[depth]);
            let parent = &mut self.nodes[nodes[depth - 1] as usize];
            if levels[depth - 1] == b"+" {
                parent.any_level = 0;
            } else {
                parent.children.remove(levels[depth - 1]);
            }
        }
    }

    /// The shared subscription of this name.
    pub fn find_group_by_name(&self, name: &str) -> Option<GroupId> {
        let text = Bytes::copy_from_slice(name.as_bytes());
        let parsed =
            Subscription::parse(&text, SubscriptionOptions::default(), &MountPoint::default()).ok()?;
        self.find_group(&parsed.filter, parsed.share.as_ref()?)
    }

    pub fn find_group(&self, filter: &TopicFilter, share: &Share) -> Option<GroupId> {
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
        let leaf = self.leaf_mut(filter);
        let place = leaf.groups.len();
        leaf.groups.push(id);
        self.groups.insert(
            id,
            Group {
                filter: filter.clone(),
                share: share.clone(),
                place,
                name: group_name(filter, share),
                members: Vec::new(),
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
        let leaf = self.leaf_mut(filter);
        leaf.groups.swap_remove(group.place);
        if let Some(moved) = leaf.groups.get(group.place).copied()
            && let Some(moved) = self.groups.get_mut(&moved)
        {
            moved.place = group.place;
        }
    }

    fn leave_group(&mut self, filter: &TopicFilter, id: GroupId, session: Slot) -> bool {
        let group = self.groups.get_mut(&id).expect("a leaf names living groups");
        let gone = take(&mut group.members, session);
        match (gone, group.cursor as usize) {
            (Some(place), cursor) if place + 1 == cursor => group.cursor = 0,
            (Some(place), cursor) if place < cursor => group.cursor -= 1,
            _ => {}
        }
        if group.members.is_empty() {
            self.remove_group(filter, id);
        }
        gone.is_some()
    }
}

fn put(entries: &mut Vec<Entry>, entry: Entry, known: bool) {
    match entries.iter_mut().find(|e| known && e.session == entry.session) {
        Some(existing) => *existing = entry,
        None => entries.push(entry),
    }
}

/// Where the entry was.
fn take(entries: &mut Vec<Entry>, session: Slot) -> Option<usize> {
    let position = entries.iter().position(|e| e.session == session)?;
    entries.remove(position);
    Some(position)
}

fn split(name: &[u8]) -> (&[u8], Option<&[u8]>) {
    match name.iter().position(|b| *b == b'/') {
        Some(slash) => (&name[..slash], Some(&name[slash + 1..])),
        None => (name, None),
    }
}

/// The levels of a filter without a final `#`, and whether it had one.
fn path(filter: &TopicFilter) -> (impl Iterator<Item = &[u8]>, bool) {
    let raw = filter.as_bytes();
    let ends_in_rest = raw.ends_with(b"#");
    (
        raw.split(|b| *b == b'/').filter(|level| *level != b"#"),
        ends_in_rest,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert!(index.remove(&filter("t/+"), Some(&share), 1));
        assert!(!index.remove(&filter("t/+"), Some(&share), 1));
        assert!(index.remove(&filter("t/+"), Some(&share), 2));
        assert!(index.remove(&filter("t/+"), None, 3));
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
                assert!(index.remove(&filter("t"), Some(&shares[gone as usize]), gone));
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
                    prop_assert!(index.remove(&filter(text), None, slot));
                    model.remove(&(slot, text.clone()));
                }
            }
            for name in &names {
                let expected: Vec<Slot> =
                    model.iter().filter(|(_, f)| filter(f).matches(name.as_bytes())).map(|(s, _)| *s).collect();
                prop_assert_eq!(matching(&index, name), expected, "{}", name);
            }
            for (slot, text) in model {
                prop_assert!(index.remove(&filter(&text), None, slot));
            }
            prop_assert_eq!(index.filters(), 0);
            prop_assert!(index.exact.is_empty());
            prop_assert_eq!(index.nodes.len() - index.free.len(), 1, "only the root is left");
        }
    }
}
