//! Lists of links. RFC 6690 §2

use crate::{Path, PathError};
use std::fmt::{self, Write};

/// A list has no more links than this.
pub const MAX_LINKS: usize = 65_536;

/// A link, as in the answer to Discover. Core 1.2 §6.3.2
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// What it leads to.
    pub path: Path,
    /// Names and values, in their order, values without quotes.
    pub attributes: Vec<(String, Option<String>)>,
}

impl Link {
    /// A link without attributes.
    pub fn of(path: Path) -> Self {
        Self {
            path,
            attributes: Vec::new(),
        }
    }

    /// The value of the first attribute with a name; `None` if there is none, or it has no value.
    pub fn get(&self, name: &str) -> Option<&str> {
        get(&self.attributes, name)
    }
}

/// Links, to be written: `</3/0>;pmin=10,</3/0/9>`. Names of attributes are written as they are: they have to be tokens.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Links(pub Vec<Link>);

impl fmt::Display for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, link) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_char(',')?;
            }
            write_link(f, &link.path, &link.attributes)?;
        }
        Ok(())
    }
}

pub(crate) fn write_link(
    out: &mut impl Write,
    target: &dyn fmt::Display,
    attributes: &[(String, Option<String>)],
) -> fmt::Result {
    write!(out, "<{target}>")?;
    for (name, value) in attributes {
        write!(out, ";{name}")?;
        let Some(value) = value else { continue };
        // Numbers and versions stand without quotes, as they do in examples of the specification.
        let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-');
        if !value.is_empty() && value.chars().all(is_number) {
            write!(out, "={value}")?;
            continue;
        }
        out.write_str("=\"")?;
        for c in value.chars() {
            if matches!(c, '"' | '\\') {
                out.write_char('\\')?;
            }
            out.write_char(c)?;
        }
        out.write_char('"')?;
    }
    Ok(())
}

/// Why a list of links is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LinkError {
    /// Another encoding.
    #[error("the links are not UTF-8")]
    NotUtf8,
    /// RFC 6690 §2
    #[error("no link format at byte {0}")]
    Syntax(usize),
    /// More than [`MAX_LINKS`].
    #[error("more than {MAX_LINKS} links")]
    TooMany,
    /// A link to something else than a path.
    #[error("link {number}: {error}")]
    Path {
        /// Which, from 1 on.
        number: usize,
        /// What is wrong with it.
        error: PathError,
    },
    /// Core 1.2 §7.2.2: two numbers with a point between them.
    #[error("link {number} has a version that is none")]
    Version {
        /// Which, from 1 on.
        number: usize,
    },
    /// RFC 7252 §7.2.1: numbers of formats, with spaces between them.
    #[error("link {number} has a content format that is no number")]
    ContentFormat {
        /// Which, from 1 on.
        number: usize,
    },
}

/// Reads the answer to Discover. All links have to lead to paths of LwM2M, without an alternate path in front.
pub fn parse_links(payload: &[u8]) -> Result<Vec<Link>, LinkError> {
    let mut links = Vec::new();
    for (number, link) in (1..).zip(parse(payload)?) {
        let path = link.target.parse();
        links.push(Link {
            path: path.map_err(|error| LinkError::Path { number, error })?,
            attributes: link.attributes,
        });
    }
    Ok(links)
}

/// A link to anything.
pub(crate) struct AnyLink<'a> {
    pub(crate) target: &'a str,
    pub(crate) attributes: Vec<(String, Option<String>)>,
}

impl AnyLink<'_> {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        get(&self.attributes, name)
    }
}

fn get<'a>(attributes: &'a [(String, Option<String>)], name: &str) -> Option<&'a str> {
    let (_, value) = attributes.iter().find(|(known, _)| known == name)?;
    value.as_deref()
}

/// Reads links to anything. White space is taken around commas and semicolons, though the RFC has none.
pub(crate) fn parse(payload: &[u8]) -> Result<Vec<AnyLink<'_>>, LinkError> {
    let text = std::str::from_utf8(payload).map_err(|_| LinkError::NotUtf8)?;
    let mut reader = Reader { text, at: 0 };
    let mut links = Vec::new();
    reader.skip_space();
    if reader.rest().is_empty() {
        return Ok(links);
    }
    loop {
        if links.len() == MAX_LINKS {
            return Err(LinkError::TooMany);
        }
        links.push(reader.link()?);
        if reader.rest().is_empty() {
            return Ok(links);
        }
        reader.expect(',')?;
        reader.skip_space();
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_ascii_start().len();
    }

    fn eat(&mut self, c: char) -> bool {
        let is_next = self.rest().starts_with(c);
        self.at += usize::from(is_next) * c.len_utf8();
        is_next
    }

    fn expect(&mut self, c: char) -> Result<(), LinkError> {
        if self.eat(c) {
            Ok(())
        } else {
            Err(LinkError::Syntax(self.at))
        }
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn link(&mut self) -> Result<AnyLink<'a>, LinkError> {
        self.expect('<')?;
        let target = self.take_while(|c| !matches!(c, '<' | '>') && !c.is_ascii_control());
        self.expect('>')?;
        let mut attributes = Vec::new();
        self.skip_space();
        while self.eat(';') {
            self.skip_space();
            attributes.push(self.attribute()?);
            self.skip_space();
        }
        Ok(AnyLink { target, attributes })
    }

    fn attribute(&mut self) -> Result<(String, Option<String>), LinkError> {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || "!#$&+-.^_`|~*".contains(c);
        let name = self.take_while(is_of_name);
        if name.is_empty() {
            return Err(LinkError::Syntax(self.at));
        }
        let value = match self.eat('=') {
            false => None,
            true if self.eat('"') => Some(self.quoted()?),
            true => {
                let value = self.take_while(|c| c.is_ascii_graphic() && !matches!(c, '"' | ',' | ';' | '\\'));
                if value.is_empty() {
                    return Err(LinkError::Syntax(self.at));
                }
                Some(value.to_owned())
            }
        };
        Ok((name.to_owned(), value))
    }

    /// What stands between quotes; the first is behind us.
    fn quoted(&mut self) -> Result<String, LinkError> {
        let mut value = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 1;
                    return Ok(value);
                }
                '\\' => match chars.next() {
                    Some((_, escaped)) => value.push(escaped),
                    None => break,
                },
                c => value.push(c),
            }
        }
        Err(LinkError::Syntax(self.text.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &str, value: Option<&str>) -> (String, Option<String>) {
        (name.to_owned(), value.map(str::to_owned))
    }

    /// The shape of the examples in Core 1.2 §6.3.2. \[LWM2M-6.3.2-DISCOVER\] \[LWM2M-7.3.1-PROPERTIES\] \[LWM2M-7.4-LINKS\]
    #[test]
    fn discover_answers_are_links_with_attributes() {
        let text = "</3/0>;pmin=10;pmax=60,</3/0/1>,</3/0/6>;dim=8,</3/0/7>;dim=8;gt=50;lt=42.2,</3/0/8>;title=\"a \\\"b\\\\\"";
        let links = parse_links(text.as_bytes()).unwrap();
        assert_eq!(links.len(), 5);
        assert_eq!(links[0].path, "/3/0".parse().unwrap());
        let wanted = [attribute("pmin", Some("10")), attribute("pmax", Some("60"))];
        assert_eq!(links[0].attributes, wanted);
        assert_eq!(links[3].get("lt"), Some("42.2"));
        assert_eq!(links[4].get("title"), Some("a \"b\\"));
        assert_eq!(Links(links).to_string(), text);
        assert_eq!(parse_links(b""), Ok(Vec::new()));
    }

    #[test]
    fn white_space_and_attributes_without_value_are_taken() {
        let links = parse_links(b" </3> ; obs; x=\"\" ,\r\n </4>").unwrap();
        assert_eq!(
            links[0].attributes,
            [attribute("obs", None), attribute("x", Some(""))]
        );
        assert_eq!(links[1].path.object(), Some(4));
    }

    /// \[LWM2M-7.4-LINKS\]
    #[test]
    fn what_is_no_link_is_refused_where_it_stands() {
        for (text, at) in [
            ("3/0", 0),
            ("</3", 3),
            ("</3>,", 5),
            ("</3>;", 5),
            ("</3>;a=", 7),
            ("</3>;a=\"b", 9),
            ("</3>;a=\"b\\", 10),
            ("</3></4>", 4),
            ("</3>;=1", 5),
            ("</3\n>", 3),
        ] {
            assert_eq!(
                parse_links(text.as_bytes()),
                Err(LinkError::Syntax(at)),
                "{text:?}"
            );
        }
        let error = PathError::Id(1);
        assert_eq!(
            parse_links(b"</3>,</rd>"),
            Err(LinkError::Path { number: 2, error })
        );
        assert_eq!(parse_links(b"<\xff>"), Err(LinkError::NotUtf8));
        assert_eq!(
            parse_links("</>,".repeat(MAX_LINKS + 1).as_bytes()),
            Err(LinkError::TooMany)
        );
    }
}
