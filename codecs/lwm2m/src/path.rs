//! Paths: `/object/instance/resource/resource instance`. Core 1.2 §7.1

use std::fmt;
use std::str::FromStr;

/// The identifier that means "none": no object, instance or resource has it. Core 1.2 §7.1
pub const RESERVED_ID: u16 = u16::MAX;

/// A path of LwM2M: the root, an object, an instance, a resource or a resource instance. It has no identifier 65535.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Path {
    // What is behind `depth` is zero, so that the derived order is that of the identifiers, parents first.
    ids: [u16; Path::MAX_DEPTH],
    depth: u8,
}

/// Why a text is no path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PathError {
    /// A level is empty, has other characters than digits or zeros in front, or is above 65535.
    #[error("level {0} of a path is no identifier in plain decimal")]
    Id(usize),
    /// Core 1.2 §7.1
    #[error("level {0} of a path is 65535, which is reserved")]
    Reserved(usize),
    /// Resource instances have nothing below them.
    #[error("a path has four levels at most")]
    TooDeep,
}

impl Path {
    /// The path above all objects.
    pub const ROOT: Self = Self {
        ids: [0; Self::MAX_DEPTH],
        depth: 0,
    };
    /// The depth of a resource instance.
    pub const MAX_DEPTH: usize = 4;

    /// A path of these identifiers; `None` if there are more than four or one is reserved (65535).
    pub fn of(ids: &[u16]) -> Option<Self> {
        ids.iter().try_fold(Self::ROOT, |path, id| path.child(*id))
    }

    /// The identifiers, from the object's on.
    pub fn ids(&self) -> &[u16] {
        &self.ids[..self.depth()]
    }

    /// How many identifiers it has: 0 for the root, 1 for an object, 2 for an instance, 3 for a resource, 4 for a resource instance.
    pub fn depth(&self) -> usize {
        usize::from(self.depth)
    }

    /// The object; `None` for the root.
    pub fn object(&self) -> Option<u16> {
        self.ids().first().copied()
    }

    /// One level below; `None` below a resource instance, or if the identifier is reserved.
    pub fn child(&self, id: u16) -> Option<Self> {
        if self.depth() == Self::MAX_DEPTH || id == RESERVED_ID {
            return None;
        }
        let mut child = *self;
        child.ids[self.depth()] = id;
        child.depth += 1;
        Some(child)
    }

    /// One level above; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        Self::of(self.ids().split_last()?.1)
    }

    /// Whether the other path is this one or below it.
    pub fn contains(&self, other: &Self) -> bool {
        other.ids().starts_with(self.ids())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.depth == 0 {
            return f.write_str("/");
        }
        self.ids().iter().try_for_each(|id| write!(f, "/{id}"))
    }
}

impl FromStr for Path {
    type Err = PathError;

    /// Takes `/3/0/1` and `3/0/1`; the root is `/` or nothing.
    fn from_str(text: &str) -> Result<Self, PathError> {
        let text = text.strip_prefix('/').unwrap_or(text);
        if text.is_empty() {
            return Ok(Self::ROOT);
        }
        let mut path = Self::ROOT;
        for (level, part) in text.split('/').enumerate() {
            if level == Self::MAX_DEPTH {
                return Err(PathError::TooDeep);
            }
            let id = decimal(part).ok_or(PathError::Id(level + 1))?;
            path = path.child(id).ok_or(PathError::Reserved(level + 1))?;
        }
        Ok(path)
    }
}

/// A number as it is written once and for all: digits alone, no zero in front.
pub(crate) fn decimal(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(ids: &[u16]) -> Path {
        Path::of(ids).unwrap()
    }

    /// \[LWM2M-6.3-NAMES\]
    #[test]
    fn paths_are_written_as_they_are_read() {
        for (text, ids) in [
            ("/", &[][..]),
            ("/3", &[3]),
            ("/3/0", &[3, 0]),
            ("/3303/1/5700", &[3303, 1, 5700]),
            ("/3/0/6/65534", &[3, 0, 6, 65534]),
        ] {
            assert_eq!(text.parse(), Ok(path(ids)));
            assert_eq!(text[1..].parse(), Ok(path(ids)));
            assert_eq!(path(ids).to_string(), text);
        }
    }

    /// \[LWM2M-6.3-NAMES\]
    #[test]
    fn what_is_no_path_is_refused() {
        for (text, error) in [
            ("//3", PathError::Id(1)),
            ("/3/", PathError::Id(2)),
            ("/03", PathError::Id(1)),
            ("/3/00", PathError::Id(2)),
            ("/3/+1", PathError::Id(2)),
            ("/3/-1", PathError::Id(2)),
            ("/3 ", PathError::Id(1)),
            ("/3/65536", PathError::Id(2)),
            ("/3/65535", PathError::Reserved(2)),
            ("/3/0/1/2/3", PathError::TooDeep),
        ] {
            assert_eq!(text.parse::<Path>(), Err(error), "{text}");
        }
        assert_eq!(Path::of(&[3, 0, 1, 2, 3]), None);
        assert_eq!(Path::of(&[65535]), None);
    }

    #[test]
    fn a_path_contains_itself_and_what_is_below() {
        assert!(Path::ROOT.contains(&Path::ROOT));
        assert!(Path::ROOT.contains(&path(&[0])));
        assert!(path(&[3, 0]).contains(&path(&[3, 0, 0])));
        assert!(path(&[3, 0]).contains(&path(&[3, 0])));
        assert!(!path(&[3, 0]).contains(&path(&[3])));
        assert!(!path(&[3, 0]).contains(&path(&[3, 1])));
        assert_eq!(path(&[3, 0]).parent(), Some(path(&[3])));
        assert_eq!(Path::ROOT.parent(), None);
    }

    #[test]
    fn parents_come_before_their_children() {
        let sorted = ["/", "/0", "/0/0", "/0/0/0", "/0/1", "/1", "/1/0/0/0", "/1/0/0/1"];
        let paths: Vec<Path> = sorted.iter().map(|text| text.parse().unwrap()).collect();
        assert!(paths.is_sorted());
    }
}
