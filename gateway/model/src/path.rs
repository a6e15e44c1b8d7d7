//! The way of a message through gateways: an MQTT 5 user property that names the nodes it has left, first to last. By it a message that comes
//! round a ring of links is known again.

use crate::Message;
use bytes::Bytes;
use std::borrow::Cow;

/// The user property.
pub const PROPERTY: &str = "headgate-path";

/// No path that we write is longer, in bytes: the oldest nodes are left out first.
const MAX_BYTES: usize = 4_096;

/// The path of a message, if it has one.
pub fn of(message: &Message) -> Option<&str> {
    let pairs = &message.properties.as_ref()?.user_properties;
    let (_, path) = pairs.iter().find(|(name, _)| name == PROPERTY)?;
    std::str::from_utf8(path).ok()
}

/// How many nodes it names.
pub fn hops(path: &str) -> usize {
    nodes(path).count()
}

/// Whether it names this node.
pub fn contains(path: &str, node: &str) -> bool {
    let node = written(node);
    nodes(path).any(|visited| visited == node)
}

/// The path with this node at its end.
pub fn stamp(existing: Option<&str>, node: &str) -> String {
    let node = written(node);
    let mut visited: Vec<&str> = existing.into_iter().flat_map(nodes).collect();
    if visited.last() != Some(&&*node) {
        visited.push(&node);
    }
    let mut from = 0;
    let mut bytes = visited.iter().map(|name| name.len() + 1).sum::<usize>();
    while bytes > MAX_BYTES && from + 1 < visited.len() {
        bytes -= visited[from].len() + 1;
        from += 1;
    }
    visited[from..].join(",")
}

/// A copy of the message whose path ends with this node.
#[must_use]
pub fn stamped(message: &Message, node: &str) -> Message {
    let path = Bytes::from(stamp(of(message), node));
    let mut copy = message.clone();
    let pairs = &mut copy.properties.get_or_insert_default().user_properties;
    match pairs.iter_mut().find(|(name, _)| name == PROPERTY) {
        Some((_, value)) => *value = path,
        None => pairs.push((Bytes::from_static(PROPERTY.as_bytes()), path)),
    }
    copy
}

fn nodes(path: &str) -> impl Iterator<Item = &str> {
    path.split(',').map(str::trim).filter(|node| !node.is_empty())
}

/// A node's name as it stands in a path.
fn written(node: &str) -> Cow<'_, str> {
    let node = node.trim();
    if node.contains(',') {
        node.replace(',', "%2C").into()
    } else {
        node.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Topic;

    #[test]
    fn a_path_names_whole_nodes() {
        assert!(contains("a, b,c", "b"));
        assert!(!contains("ab,c", "a"));
        assert!(!contains("", ""));
        assert!(contains(&stamp(None, "x,y"), "x,y"));
        assert_eq!((hops("a,b,,c"), hops(""), hops(" , ")), (3, 0, 0));
    }

    #[test]
    fn a_stamp_stands_once_at_the_end() {
        assert_eq!(stamp(None, "a"), "a");
        assert_eq!(stamp(Some("a"), "b"), "a,b");
        assert_eq!(stamp(Some("a,b"), "b"), "a,b");
        assert_eq!(stamp(Some("b, a"), "b"), "b,a,b");
    }

    /// What is written must fit into a string of MQTT, whatever came in. MQTT 5 §1.5.4
    #[test]
    fn a_path_has_a_bound() {
        let long = vec!["x".repeat(1_000); 60].join(",");
        let path = stamp(Some(&long), "node");
        assert!(
            path.len() <= MAX_BYTES && path.ends_with(",node"),
            "{}",
            path.len()
        );
        assert_eq!(stamp(Some(&"x".repeat(65_000)), "node"), "node");
    }

    #[test]
    fn a_stamped_message_keeps_its_other_properties() {
        let mut message = Message::new(Topic::try_from("t").unwrap(), "x");
        assert_eq!(of(&message), None);
        let pair = (Bytes::from_static(b"unit"), Bytes::from_static(b"K"));
        message.properties.get_or_insert_default().user_properties = vec![pair.clone()];
        let once = stamped(&message, "a");
        let twice = stamped(&once, "b");
        assert_eq!((of(&once), of(&twice)), (Some("a"), Some("a,b")));
        let pairs = twice.properties.unwrap().user_properties;
        assert_eq!((pairs.len(), &pairs[0]), (2, &pair));
    }
}
