//! Records as a tree, for the formats that are one: objects, instances, resources, and their instances.

use crate::{FormatError, Path, Record, Value};

/// Records in the order of their paths; none twice, none above another.
pub(crate) struct Tree<'a>(Vec<(Path, Option<&'a Value>)>);

/// What is at or below one identifier.
pub(crate) struct Node<'t, 'a> {
    pub(crate) id: u16,
    pub(crate) path: Path,
    pub(crate) kind: Kind<'t, 'a>,
}

pub(crate) enum Kind<'t, 'a> {
    /// A record is here.
    Leaf(Option<&'a Value>),
    /// Records are below.
    Branch(&'t [(Path, Option<&'a Value>)]),
}

impl<'a> Tree<'a> {
    pub(crate) fn of(records: &'a [Record]) -> Result<Self, FormatError> {
        if let Some(timed) = records.iter().find(|record| record.time.is_some()) {
            return Err(FormatError::Time(timed.path));
        }
        let mut sorted: Vec<_> = records
            .iter()
            .map(|record| (record.path, record.value.as_ref()))
            .collect();
        sorted.sort_by_key(|(path, _)| *path);
        // In this order, what is below a path follows it at once.
        match sorted.windows(2).find(|pair| pair[0].0.contains(&pair[1].0)) {
            Some(pair) => Err(FormatError::Twice(pair[0].0)),
            None => Ok(Self(sorted)),
        }
    }

    pub(crate) fn all(&self) -> &[(Path, Option<&'a Value>)] {
        &self.0
    }
}

/// The nodes one level below `depth`, of records that are all the same down to there and go deeper.
pub(crate) fn nodes<'t, 'a>(
    records: &'t [(Path, Option<&'a Value>)],
    depth: usize,
) -> impl Iterator<Item = Node<'t, 'a>> + Clone {
    records
        .chunk_by(move |(a, _), (b, _)| a.ids()[depth] == b.ids()[depth])
        .map(move |group| {
            let (path, value) = group[0];
            let kind = if path.depth() == depth + 1 {
                Kind::Leaf(value)
            } else {
                Kind::Branch(group)
            };
            let id = path.ids()[depth];
            let path = Path::of(&path.ids()[..=depth]).expect("a part of a path");
            Node { id, path, kind }
        })
}
