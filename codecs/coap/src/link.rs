//! Lists of links. RFC 6690 §2

use std::fmt::Write;

/// Writes a list of links.
#[derive(Debug, Default)]
pub struct Links(String);

impl Links {
    /// Adds a link to a path, with attributes that are written already: `;rt="core.ps"`.
    pub fn add(&mut self, path: &str, attributes: &str) {
        let comma = if self.0.is_empty() { "" } else { "," };
        write!(self.0, "{comma}<{path}>{attributes}").expect("a string takes everything");
    }

    /// The list.
    pub fn finish(self) -> String {
        self.0
    }
}

/// Text as it stands between double quotes. RFC 2616 §2.2
pub fn escape_quoted(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if matches!(char, '"' | '\\') {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_divided_by_commas() {
        let mut links = Links::default();
        links.add("/mqtt", "");
        links.add("/ps", ";rt=\"core.ps\"");
        assert_eq!(links.finish(), "</mqtt>,</ps>;rt=\"core.ps\"");
        assert_eq!(escape_quoted(r#"a"b\c"#), r#"a\"b\\c"#);
    }
}
