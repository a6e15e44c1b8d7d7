//! What a disk may hold after the power was cut: all that was synced, and of the rest whatever the drive pleased.

use crate::interpose::Event;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How much of what was not synced is there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rest {
    Nothing,
    Everything,
    /// Blocks of so many bytes, each with this chance of a hundred.
    Some(usize, u8),
    /// What came first, the last write torn.
    First,
}

#[derive(Clone, Default)]
struct File {
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

/// A change of a folder, which is durable when the folder is synced.
#[derive(Clone)]
enum Name {
    Is(PathBuf, usize),
    IsNot(PathBuf),
}

#[derive(Default)]
struct Model {
    files: Vec<File>,
    /// As the process sees them, and as they are durable.
    names: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    pending: Vec<Name>,
}

/// Builds in `to` what the folder `root` may be after these events.
pub(crate) fn build(events: &[Event], root: &Path, to: &Path, rest: Rest, random: &mut fastrand::Rng) {
    let mut model = Model::default();
    for event in events {
        model.take(event);
    }
    let pending = std::mem::take(&mut model.pending);
    let kept = match rest {
        Rest::Nothing => 0,
        Rest::Everything => pending.len(),
        Rest::Some(..) | Rest::First => random.usize(..=pending.len()),
    };
    for name in pending.into_iter().take(kept) {
        apply_name(&mut model.durable, name);
    }
    for (path, file) in &model.durable {
        let target = to.join(path.strip_prefix(root).expect("below the root"));
        std::fs::create_dir_all(target.parent().expect("it has a folder")).unwrap();
        std::fs::write(target, content(&model.files[*file], rest, random)).unwrap();
    }
}

impl Model {
    fn file(&mut self, path: &Path) -> &mut File {
        let next = self.files.len();
        let number = *self.names.entry(path.to_owned()).or_insert(next);
        if number == next {
            self.files.push(File::default());
            self.pending.push(Name::Is(path.to_owned(), number));
        }
        &mut self.files[number]
    }

    fn take(&mut self, event: &Event) {
        match event {
            Event::Write { file, offset, bytes } => {
                self.file(file)
                    .pending
                    .push(Change::Write(*offset, bytes.clone()));
            }
            Event::Truncate { file, len } => self.file(file).pending.push(Change::Truncate(*len)),
            Event::Sync(path) if self.names.contains_key(path) => {
                let file = self.file(path);
                for change in std::mem::take(&mut file.pending) {
                    apply(&mut file.durable, &change);
                }
            }
            Event::Sync(folder) => {
                let (here, elsewhere) = std::mem::take(&mut self.pending)
                    .into_iter()
                    .partition(|name| path_of(name).parent() == Some(folder));
                let here: Vec<Name> = here;
                here.into_iter()
                    .for_each(|name| apply_name(&mut self.durable, name));
                self.pending = elsewhere;
            }
            Event::Rename(from, to) => {
                if let Some(number) = self.names.remove(from) {
                    self.names.insert(to.clone(), number);
                    self.pending.push(Name::Is(to.clone(), number));
                    self.pending.push(Name::IsNot(from.clone()));
                }
            }
            Event::Remove(path) => {
                if self.names.remove(path).is_some() {
                    self.pending.push(Name::IsNot(path.clone()));
                }
            }
        }
    }
}

fn path_of(name: &Name) -> &Path {
    match name {
        Name::Is(path, _) | Name::IsNot(path) => path,
    }
}

fn apply_name(names: &mut BTreeMap<PathBuf, usize>, name: Name) {
    match name {
        Name::Is(path, number) => drop(names.insert(path, number)),
        Name::IsNot(path) => drop(names.remove(&path)),
    }
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, bytes) => {
            let (from, to) = (*offset as usize, *offset as usize + bytes.len());
            if content.len() < to {
                content.resize(to, 0);
            }
            content[from..to].copy_from_slice(bytes);
        }
        Change::Truncate(len) => content.resize(*len as usize, 0),
    }
}

fn content(file: &File, rest: Rest, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut content = file.durable.clone();
    let first = random.usize(..=file.pending.len());
    for (n, change) in file.pending.iter().enumerate() {
        match (rest, change) {
            (Rest::Nothing, _) => {}
            (Rest::Everything, _) => apply(&mut content, change),
            (Rest::First, _) if n < first => apply(&mut content, change),
            (Rest::First, Change::Write(offset, bytes)) if n == first => {
                let torn = bytes[..random.usize(..=bytes.len())].to_vec();
                apply(&mut content, &Change::Write(*offset, torn));
            }
            (Rest::First, _) => {}
            (Rest::Some(_, chance), Change::Truncate(_)) => {
                if random.u8(..100) < chance {
                    apply(&mut content, change);
                }
            }
            (Rest::Some(block, chance), Change::Write(offset, bytes)) => {
                let mut from = 0;
                while from < bytes.len() {
                    let in_block = (*offset as usize + from) % block;
                    let to = bytes.len().min(from + block - in_block);
                    if random.u8(..100) < chance {
                        let part = Change::Write(offset + from as u64, bytes[from..to].to_vec());
                        apply(&mut content, &part);
                    }
                    from = to;
                }
            }
        }
    }
    content
}
