//! Filters with wildcards, as a trie of levels in which a way without branches is one node: whatever clients subscribe to, there are fewer than two nodes
//! for each filter. MQTT 5 §4.7.
//!
//! Always true: a node but the root has a subscriber, or more than one child.

use crate::index::{Leaf, Matches};
use hashbrown::HashMap;
use headgate_model::TopicFilter;

/// What a node takes, with its place in its parent's table. The levels, which are there once and the first of them twice, come to that. Measured.
pub(crate) const NODE: usize = 400;

/// Bytes of a way that cost as much to compare as a node to look at.
const STRIDE: usize = 64;

const ROOT: u32 = 0;

#[derive(Debug, Default)]
struct Node {
    /// The levels between the parent and here, with their separators. `+` stands for any.
    way: Box<[u8]>,
    /// Children by the first level of their way; without the one that begins with `+`.
    children: HashMap<Box<[u8]>, u32>,
    /// The child whose way begins with `+`, zero for none: the root is nobody's child.
    any_level: u32,
    /// Subscribers whose filter ends here.
    here: Leaf,
    /// Subscribers whose filter ends with `#` below here.
    rest: Leaf,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.here.is_empty() && self.rest.is_empty()
    }
}

#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
    free: Vec<u32>,
    /// Bytes of all ways.
    ways: usize,
}

impl Default for Trie {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
            free: Vec::new(),
            ways: 0,
        }
    }
}

impl Trie {
    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        (self.nodes.len() - 1) * NODE + 2 * self.ways
    }

    /// Nodes without the root.
    #[cfg(test)]
    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len() - self.free.len() - 1
    }

    /// Collects what matches a topic name. A leading wildcard does not match one that begins with `$`. \[MQTT-4.7.2-1\]
    pub(crate) fn collect(&self, name: &[u8], found: &mut Matches) {
        let root = &self.nodes[ROOT as usize];
        if name.first() == Some(&b'$') {
            if let Some(child) = root.children.get(split(name).0) {
                self.enter(*child, name, found);
            }
        } else {
            self.walk(root, Some(name), found);
        }
    }

    /// `rest` is `None` when the name has no further level.
    fn walk(&self, node: &Node, rest: Option<&[u8]>, found: &mut Matches) {
        found.visited += 1 + node.way.len() / STRIDE;
        found.take(&node.rest); // "sport/#" also matches "sport"
        let Some(rest) = rest else {
            return found.take(&node.here);
        };
        if node.any_level != 0 {
            self.enter(node.any_level, rest, found);
        }
        if let Some(child) = node.children.get(split(rest).0) {
            self.enter(*child, rest, found);
        }
    }

    /// Goes on if the name's next levels are those of the way to this child.
    fn enter(&self, child: u32, name: &[u8], found: &mut Matches) {
        let child = &self.nodes[child as usize];
        let (mut way, mut name) = (Some(&child.way[..]), Some(name));
        while let Some(levels) = way {
            let Some(names) = name else { return };
            let ((level, more), (wanted, further)) = (split(names), split(levels));
            if wanted != b"+" && wanted != level {
                found.visited += child.way.len() / STRIDE;
                return;
            }
            (way, name) = (further, more);
        }
        self.walk(child, name, found);
    }

    /// The leaf of a filter, if it is there.
    pub(crate) fn leaf(&self, filter: &TopicFilter) -> Option<&Leaf> {
        let (path, ends_in_rest) = path(filter);
        let node = &self.nodes[*self.find(path)?.last()? as usize];
        Some(if ends_in_rest { &node.rest } else { &node.here })
    }

    /// The nodes on the way of a path, from the root on; `None` when it does not end at a node.
    fn find(&self, mut path: Option<&[u8]>) -> Option<Vec<u32>> {
        let mut nodes = vec![ROOT];
        while let Some(levels) = path {
            let child = self.child(nodes[nodes.len() - 1], levels)?;
            let way = &self.nodes[child as usize].way;
            path = match levels.strip_prefix(&way[..])? {
                [] => None,
                [b'/', rest @ ..] => Some(rest),
                _ => return None,
            };
            nodes.push(child);
        }
        Some(nodes)
    }

    fn child(&self, node: u32, levels: &[u8]) -> Option<u32> {
        let node = &self.nodes[node as usize];
        match split(levels).0 {
            b"+" => (node.any_level != 0).then_some(node.any_level),
            level => node.children.get(level).copied(),
        }
    }

    /// The leaf of a filter, which gets a subscriber now.
    pub(crate) fn leaf_mut(&mut self, filter: &TopicFilter) -> &mut Leaf {
        let (mut path, ends_in_rest) = path(filter);
        let mut node = ROOT;
        while let Some(levels) = path {
            let Some(child) = self.child(node, levels) else {
                node = self.add(node, levels.into());
                break;
            };
            let common = common_levels(&self.nodes[child as usize].way, levels);
            node = if common < self.nodes[child as usize].way.len() {
                self.split_way(node, child, common)
            } else {
                child
            };
            path = levels.get(common + 1..);
        }
        let node = &mut self.nodes[node as usize];
        if ends_in_rest {
            &mut node.rest
        } else {
            &mut node.here
        }
    }

    /// A new child at the end of `way`.
    fn add(&mut self, parent: u32, way: Box<[u8]>) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| {
            crate::clients::make_room(&mut self.nodes);
            self.nodes.push(Node::default());
            u32::try_from(self.nodes.len() - 1).expect("fewer than four billion nodes")
        });
        self.ways += way.len();
        self.nodes[id as usize].way = way;
        self.name(parent, id);
        id
    }

    /// The parent knows the child by the first level of its way.
    fn name(&mut self, parent: u32, child: u32) {
        let first: Box<[u8]> = split(&self.nodes[child as usize].way).0.into();
        let parent = &mut self.nodes[parent as usize];
        if *first == *b"+" {
            parent.any_level = child;
        } else {
            parent.children.insert(first, child);
        }
    }

    fn set_way(&mut self, node: u32, way: Box<[u8]>) {
        self.ways = self.ways + way.len() - self.nodes[node as usize].way.len();
        self.nodes[node as usize].way = way;
    }

    /// Puts a node where the way to `child` has come to `at`, which is before a separator.
    fn split_way(&mut self, parent: u32, child: u32, at: usize) -> u32 {
        let way = std::mem::take(&mut self.nodes[child as usize].way);
        self.ways -= way.len();
        let between = self.add(parent, way[..at].into());
        self.set_way(child, way[at + 1..].into());
        self.name(between, child);
        between
    }

    /// The leaf of `filter` has no subscriber any more: nodes that are not needed go.
    pub(crate) fn prune(&mut self, filter: &TopicFilter) {
        let Some(mut nodes) = self.find(path(filter).0) else {
            return;
        };
        let (Some(node), Some(parent)) = (nodes.pop(), nodes.pop()) else {
            return;
        };
        if !self.nodes[node as usize].is_empty() {
            return;
        }
        if self.children(node) == 0 {
            self.remove(parent, node);
            if parent != ROOT && self.nodes[parent as usize].is_empty() {
                self.close_gap(parent);
            }
        } else {
            self.close_gap(node);
        }
    }

    fn children(&self, node: u32) -> usize {
        let node = &self.nodes[node as usize];
        node.children.len() + usize::from(node.any_level != 0)
    }

    fn remove(&mut self, parent: u32, node: u32) {
        let gone = std::mem::take(&mut self.nodes[node as usize]);
        self.ways -= gone.way.len();
        self.free.push(node);
        let parent = &mut self.nodes[parent as usize];
        match split(&gone.way).0 {
            b"+" => parent.any_level = 0,
            level => drop(parent.children.remove(level)),
        }
        if parent.children.is_empty() {
            parent.children = HashMap::new(); // its table would stay
        }
    }

    /// A node without subscribers and with one child becomes that child: so it keeps its place in its parent.
    fn close_gap(&mut self, node: u32) {
        if self.children(node) != 1 {
            return;
        }
        let gap = &self.nodes[node as usize];
        let only = gap.children.values().copied().next().unwrap_or(gap.any_level);
        let mut child = std::mem::take(&mut self.nodes[only as usize]);
        self.free.push(only);
        let way = [&self.nodes[node as usize].way, &b"/"[..], &child.way].concat();
        self.ways += 1; // the separator
        child.way = way.into();
        self.nodes[node as usize] = child;
    }
}

/// How many bytes at the beginning of both are the same whole levels; at least the first level is.
fn common_levels(one: &[u8], other: &[u8]) -> usize {
    let mut common = 0;
    for (level, wanted) in one.split(|b| *b == b'/').zip(other.split(|b| *b == b'/')) {
        if level != wanted {
            break;
        }
        common += level.len() + 1;
    }
    common - 1
}

fn split(name: &[u8]) -> (&[u8], Option<&[u8]>) {
    match name.iter().position(|b| *b == b'/') {
        Some(slash) => (&name[..slash], Some(&name[slash + 1..])),
        None => (name, None),
    }
}

/// A filter without a final `#`, `None` where nothing is left; and whether it had one.
fn path(filter: &TopicFilter) -> (Option<&[u8]>, bool) {
    match filter.as_bytes() {
        b"#" => (None, true),
        raw => match raw.strip_suffix(b"/#") {
            Some(path) => (Some(path), true),
            None => (Some(raw), false),
        },
    }
}
