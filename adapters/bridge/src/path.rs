//! The gateways a message has passed, for those that break loops: a user property of MQTT 5.

/// Name of the user property: the nodes visited, oldest first, separated by commas.
pub const PATH: &str = "headgate-path";

/// The path with `node` at its end, unless it is there already.
pub fn stamp(existing: Option<&str>, node: &str) -> String {
    match existing.filter(|path| !path.is_empty()) {
        None => node.to_owned(),
        Some(path) if path.rsplit(',').next() == Some(node) => path.to_owned(),
        Some(path) => format!("{path},{node}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_stands_at_the_end_of_the_path_once() {
        assert_eq!(stamp(None, "a"), "a");
        assert_eq!(stamp(Some(""), "a"), "a");
        assert_eq!(stamp(Some("a"), "a"), "a");
        assert_eq!(stamp(Some("b,a"), "a"), "b,a");
        assert_eq!(stamp(Some("a,b"), "a"), "a,b,a");
        assert_eq!(stamp(Some("ba"), "a"), "ba,a");
    }
}
