//! The journal: segment files to which every commit is appended as one frame. It is the point of durability, and where the bodies of queued
//! messages stay for good.
//!
//! A segment is a header and frames. A frame is `HGj1`, the length and the CRC-32 of what follows, and records (see [`crate::records`]). One
//! commit is one frame, written with one call and synced before the next is written. So after a power cut only the last frame can be torn:
//! what is not whole at the end of the last segment was never acknowledged and is cut off. A frame that is bad with a whole one behind it
//! is damage: it is kept in a file of its own, and reading goes on behind it.
//!
//! Always true: what is appended lies behind every place that the tables name, be it a checkpoint's or a body's. Where a journal has lost its
//! end, a new segment is begun behind them: a start reads all of it, and no position leads to the bytes of another message.

use crate::open::failed;
use headgate_model::StoreError;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 4] = b"HGj1";
const HEADER: &[u8; 8] = b"HGJOURN1";
/// Bytes of a segment's header: magic, number, CRC-32.
const HEADER_LEN: u32 = 16;
/// Bytes before a frame's records.
pub(crate) const FRAME: usize = 12;
/// Bytes that a drive writes as a whole.
const BLOCK: usize = 512;
/// The largest buffer that is kept for the next frame.
const KEPT: usize = 1 << 20;
/// Segments that are open for reading at a time.
const OPEN: usize = 16;
/// Bytes that are read at once when bodies lie side by side, and the largest hole between two of them.
const RUN: usize = 256 << 10;
const HOLE: u32 = 4 << 10;

/// Where a body lies: its CRC-32 is the four bytes before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Position {
    pub segment: u32,
    pub offset: u32,
    pub len: u32,
}

/// A place between two frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Boundary {
    pub segment: u32,
    pub offset: u32,
}

impl Position {
    /// The place behind it.
    pub(crate) fn end(self) -> Boundary {
        Boundary {
            segment: self.segment,
            offset: self.offset.saturating_add(self.len),
        }
    }
}

/// Reads bodies.
#[derive(Debug)]
pub(crate) struct Reader {
    folder: PathBuf,
    open: BTreeMap<u32, File>,
    /// Bytes of a segment from an offset on, read for bodies that are asked for next.
    run: (u32, u32, Vec<u8>),
}

/// The journal, open for appending.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    reader: Reader,
    /// Length of every segment, the one that is written to last.
    segments: BTreeMap<u32, u64>,
    active: File,
    pub(crate) sync: bool,
    pub(crate) segment_bytes: u64,
    /// The frame that is being made.
    frame: Vec<u8>,
    /// Bytes written since it was opened.
    pub written: u64,
}

/// What the tables know of the journal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    /// What lies before it is in the tables.
    pub from: Boundary,
    /// The last place that they name.
    pub upto: Boundary,
}

/// What reading the journal met.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub damage: Vec<String>,
}

impl Journal {
    /// Opens the journal in `folder` and hands the records of all frames from `known.from` on to `frame`.
    pub(crate) fn open(
        folder: PathBuf,
        sync: bool,
        segment_bytes: u64,
        known: Known,
        mut frame: impl FnMut(&[u8]) -> Result<(), crate::rows::RowError>,
    ) -> Result<(Self, Replay), StoreError> {
        let from = known.from;
        std::fs::create_dir_all(&folder).map_err(|e| failed("create the journal", e))?;
        let mut segments = list(&folder).map_err(|e| failed("list the journal", e))?;
        let mut replay = Replay::default();
        let begun = folder.with_file_name("journal-begun");
        let was_begun = begun.exists();
        report_missing(&segments, from, was_begun, &mut replay);
        let last = segments.keys().next_back().copied();
        for (number, len) in segments.range_mut(from.segment..) {
            let path = path(&folder, *number);
            let expected = Expected {
                start: if *number == from.segment { from.offset } else { 0 },
                is_last: Some(*number) == last,
                // The mark is made when the first segment of all has its header.
                was_begun: *number == from.segment || (*number == 1 && was_begun),
            };
            let good = replay_segment(&path, *number, expected, &mut frame, &mut replay)
                .map_err(|e| failed("read the journal", e))?;
            if expected.is_last && good < *len {
                let file = OpenOptions::new().write(true).open(&path);
                let cut = file.and_then(|file| file.set_len(good).and_then(|()| file.sync_all()));
                cut.map_err(|e| failed("cut the torn end of the journal", e))?;
                *len = good;
            }
        }
        let (number, is_new) = append_to(&segments, known)?;
        let active = if is_new {
            let file = create_somehow(&folder, number).map_err(|e| failed("begin the journal", e))?;
            segments.insert(number, HEADER_LEN.into());
            file
        } else {
            let path = path(&folder, number);
            let file = OpenOptions::new().read(true).write(true).open(path);
            file.map_err(|e| failed("open the journal", e))?
        };
        if !was_begun {
            // Without it a journal that vanishes before the first checkpoint is not missed; a full disk may do without.
            let _ = File::create(&begun).and_then(|file| file.sync_all());
        }
        let journal = Self {
            reader: Reader::new(folder.clone()),
            folder,
            segments,
            active,
            sync,
            segment_bytes,
            frame: Vec::new(),
            written: 0,
        };
        Ok((journal, replay))
    }

    /// Begins a frame. Records are written behind what is in the buffer; [`Journal::here`] is where the next one will be.
    pub(crate) fn begin(&mut self) -> Result<&mut Vec<u8>, StoreError> {
        if self.end().offset as u64 >= self.segment_bytes {
            self.roll()?;
        }
        self.frame.clear();
        self.frame.resize(FRAME, 0);
        Ok(&mut self.frame)
    }

    /// The frame that is being made, and the place in the journal where it begins.
    pub(crate) fn frame(&mut self) -> (&mut Vec<u8>, Boundary) {
        let at = self.end();
        (&mut self.frame, at)
    }

    /// Where the next frame will be.
    pub(crate) fn end(&self) -> Boundary {
        let (number, len) = self.segments.last_key_value().expect("there is always one");
        Boundary {
            segment: *number,
            offset: u32::try_from(*len).unwrap_or(u32::MAX),
        }
    }

    /// Writes the frame and makes it durable; or nothing of it.
    pub(crate) fn commit(&mut self) -> Result<(), JournalError> {
        let at = self.end();
        let len = self.frame.len() - FRAME;
        let fits = u32::try_from(len).ok().and_then(|len| at.offset.checked_add(len));
        let Some(len) = fits.and(u32::try_from(len).ok()) else {
            return Err(JournalError::Write(io::ErrorKind::FileTooLarge.into()));
        };
        let sum = crc32fast::hash(&self.frame[FRAME..]);
        self.frame[..4].copy_from_slice(MAGIC);
        self.frame[4..8].copy_from_slice(&len.to_be_bytes());
        self.frame[8..12].copy_from_slice(&sum.to_be_bytes());
        if let Err(error) = self.active.write_all_at(&self.frame, at.offset.into()) {
            // Half a frame would be taken for damage when another follows it.
            return match self.active.set_len(at.offset.into()) {
                Ok(()) => Err(JournalError::Write(error)),
                Err(cause) => Err(JournalError::Sync(cause)),
            };
        }
        if self.sync {
            self.active.sync_data().map_err(JournalError::Sync)?;
        }
        self.written += self.frame.len() as u64;
        *self.segments.get_mut(&at.segment).expect("it is the last") += self.frame.len() as u64;
        Ok(())
    }

    /// Makes all of it durable that was committed without that.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        for number in self.segments.keys() {
            File::open(path(&self.folder, *number))?.sync_data()?;
        }
        Ok(())
    }

    /// Takes the buffer of the last frame back, to use it again.
    pub(crate) fn give_back(&mut self, frame: Vec<u8>) {
        if frame.capacity() <= KEPT {
            self.frame = frame;
        }
    }

    /// Begins a new segment.
    pub(crate) fn roll(&mut self) -> Result<(), StoreError> {
        let number = next_number(self.end().segment)?;
        let created = create(&self.folder, number).inspect_err(|_| {
            // What is appended to must stay the last: only there a torn frame is no damage.
            let _ = std::fs::remove_file(path(&self.folder, number));
        });
        self.active = created.map_err(|e| failed("begin a journal segment", e))?;
        self.segments.insert(number, HEADER_LEN.into());
        self.written += u64::from(HEADER_LEN);
        Ok(())
    }

    /// The body at a position.
    pub(crate) fn read(&mut self, at: Position) -> io::Result<Vec<u8>> {
        self.reader.read(at)
    }

    /// See [`Reader::with_run`].
    pub(crate) fn with_run<T>(
        &mut self,
        at: Position,
        next: impl Iterator<Item = Position>,
        use_it: impl FnOnce(&[u8]) -> T,
    ) -> io::Result<T> {
        self.reader.with_run(at, next, use_it)
    }

    /// A reader of its own, for another thread.
    pub(crate) fn reader(&self) -> Reader {
        Reader::new(self.folder.clone())
    }

    /// Segments and their lengths.
    pub(crate) fn segments(&self) -> &BTreeMap<u32, u64> {
        &self.segments
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.values().sum()
    }

    /// Removes a segment that nothing refers to.
    pub(crate) fn remove(&mut self, number: u32) -> io::Result<()> {
        std::fs::remove_file(path(&self.folder, number))?;
        self.reader.forget(number);
        self.segments.remove(&number);
        Ok(())
    }
}

/// Why a frame was not written.
#[derive(Debug)]
pub(crate) enum JournalError {
    /// Nothing of it is there; it may be tried again.
    Write(io::Error),
    /// What is there is not known: the system may have dropped what it could not write, and would call the next sync a success.
    Sync(io::Error),
}

impl Reader {
    fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            open: BTreeMap::new(),
            run: Default::default(),
        }
    }

    /// The body at a position, if its checksum is right.
    pub(crate) fn read(&mut self, at: Position) -> io::Result<Vec<u8>> {
        let file = self.file(at.segment)?;
        // The position comes from a checked row, but the file may be shorter than it was.
        if u64::from(at.offset) + u64::from(at.len) > file.metadata()?.len() || at.offset < 4 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; at.len as usize + 4];
        file.read_exact_at(&mut bytes, u64::from(at.offset) - 4)?;
        let body = bytes.split_off(4);
        if check(&bytes, &body) {
            Ok(body)
        } else {
            Err(wrong_sum())
        }
    }

    /// Lends the body at a position. Those at the `next` ones are read with it as far as they lie near behind it, so that asking for one
    /// after the other costs one system call for many.
    pub(crate) fn with_run<T>(
        &mut self,
        at: Position,
        next: impl Iterator<Item = Position>,
        use_it: impl FnOnce(&[u8]) -> T,
    ) -> io::Result<T> {
        if self.in_run(at).is_none() {
            self.read_run(at, next)?;
        }
        match self.in_run(at) {
            Some(body) => Ok(use_it(body)),
            // It is long, the file ends before it, or it was not whole when the run was read.
            None => self.read(at).map(|body| use_it(&body)),
        }
    }

    fn in_run(&self, at: Position) -> Option<&[u8]> {
        let (segment, from, bytes) = &self.run;
        if *segment != at.segment {
            return None;
        }
        let begin = at.offset.checked_sub(4)?.checked_sub(*from)? as usize;
        let (sum, rest) = bytes.get(begin..)?.split_at_checked(4)?;
        let body = rest.get(..at.len as usize)?;
        check(sum, body).then_some(body)
    }

    fn read_run(&mut self, at: Position, next: impl Iterator<Item = Position>) -> io::Result<()> {
        let from = at.offset.saturating_sub(4);
        let end = |at: Position| at.offset.saturating_add(at.len);
        let mut upto = end(at);
        for near in next {
            let follows =
                near.segment == at.segment && (upto..=upto.saturating_add(HOLE)).contains(&near.offset);
            if !follows || (end(near) - from) as usize > RUN {
                break;
            }
            upto = end(near);
        }
        let mut bytes = std::mem::take(&mut self.run.2);
        bytes.clear();
        if (upto - from) as usize <= RUN {
            bytes.resize((upto - from) as usize, 0);
            let got = read_at_most(self.file(at.segment)?, &mut bytes, from.into())?;
            bytes.truncate(got);
        }
        self.run = (at.segment, from, bytes);
        Ok(())
    }

    /// The segment is gone.
    fn forget(&mut self, segment: u32) {
        self.open.remove(&segment);
        if self.run.0 == segment {
            self.run = Default::default();
        }
    }

    fn file(&mut self, segment: u32) -> io::Result<&File> {
        if !self.open.contains_key(&segment) {
            if self.open.len() >= OPEN {
                self.open.pop_first();
            }
            let file = File::open(path(&self.folder, segment))?;
            self.open.insert(segment, file);
        }
        Ok(&self.open[&segment])
    }
}

fn check(sum: &[u8], body: &[u8]) -> bool {
    sum == crc32fast::hash(body).to_be_bytes()
}

fn wrong_sum() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its checksum is wrong")
}

/// Fills the buffer as far as the file goes; how far that is.
fn read_at_most(file: &File, buffer: &mut [u8], from: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], from + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

fn path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:010}.log"))
}

/// Numbers and lengths of the segments that are there.
fn list(folder: &Path) -> io::Result<BTreeMap<u32, u64>> {
    let mut segments = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(".log")?.parse().ok());
        if let Some(number) = number {
            segments.insert(number, entry.metadata()?.len());
        }
    }
    Ok(segments)
}

/// Segments that a start must find: the one of the checkpoint, or the first of all once there was one, and every one up to the last.
fn report_missing(segments: &BTreeMap<u32, u64>, from: Boundary, was_begun: bool, replay: &mut Replay) {
    let Some(last) = segments.keys().next_back() else {
        if was_begun || from.segment > 0 {
            replay
                .damage
                .push("the journal is gone, and with it what no checkpoint holds".to_owned());
        }
        return;
    };
    let mut next = from.segment.max(1);
    for number in segments.range(next..).map(|(number, _)| *number) {
        if number > next {
            replay.damage.push(match number - 1 {
                end if end == next => format!("segment {next} of the journal is gone"),
                end => format!("segments {next} to {end} of the journal are gone"),
            });
        }
        next = number.saturating_add(1);
    }
    if *last < from.segment {
        replay
            .damage
            .push(format!("segment {} of the journal is gone", from.segment));
    }
}

/// The segment that is appended to, and whether it is to be made: the last one, unless it has no header or ends before what is known.
fn append_to(segments: &BTreeMap<u32, u64>, known: Known) -> Result<(u32, bool), StoreError> {
    let upto = known.upto.max(known.from);
    let Some((last, len)) = segments.last_key_value() else {
        return Ok((next_number(upto.segment)?, true));
    };
    let end = Boundary {
        segment: *last,
        offset: u32::try_from(*len).unwrap_or(u32::MAX),
    };
    if end < upto {
        return Ok((next_number(upto.segment)?, true));
    }
    Ok((*last, *len < u64::from(HEADER_LEN)))
}

fn next_number(number: u32) -> Result<u32, StoreError> {
    let next = number.checked_add(1);
    next.ok_or_else(|| failed("begin a journal segment", "there is no number left for it"))
}

fn header(number: u32) -> Vec<u8> {
    let mut header = [&HEADER[..], &number.to_be_bytes()].concat();
    let sum = crc32fast::hash(&header);
    header.extend_from_slice(&sum.to_be_bytes());
    header
}

/// A new segment; its name is durable.
fn create(folder: &Path, number: u32) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path(folder, number))?;
    file.write_all_at(&header(number), 0)?;
    file.sync_all()?;
    File::open(folder)?.sync_all()?;
    Ok(file)
}

/// A new segment, on a full disk with the ballast's room.
fn create_somehow(folder: &Path, number: u32) -> io::Result<File> {
    create(folder, number).or_else(|error| {
        std::fs::remove_file(folder.with_file_name("ballast")).map_err(|_| error)?;
        create(folder, number)
    })
}

/// What a segment must be.
#[derive(Clone, Copy)]
struct Expected {
    /// Where reading begins, in bytes; it is not shorter.
    start: u32,
    is_last: bool,
    /// Its header was whole once.
    was_begun: bool,
}

/// Hands the records of all whole frames from the expected start on to `frame`. The end of the last of them.
fn replay_segment(
    path: &Path,
    number: u32,
    expected: Expected,
    frame: &mut impl FnMut(&[u8]) -> Result<(), crate::rows::RowError>,
    replay: &mut Replay,
) -> io::Result<u64> {
    let bytes = std::fs::read(path)?;
    let start = expected.start.max(HEADER_LEN) as usize;
    let has_header = bytes.starts_with(&header(number));
    // What was begun last of all may be torn.
    let must_have_header = expected.was_begun || !expected.is_last;
    if bytes.len() < start && (must_have_header || expected.start > 0) {
        replay
            .damage
            .push(format!("segment {number} of the journal has lost its end"));
        return Ok(bytes.len() as u64);
    }
    let mut at = start;
    let mut good = if has_header || must_have_header { start } else { 0 };
    let mut bad_from = None;
    loop {
        let next = match whole_frame(&bytes, at) {
            Some(end) => Some((at, end)),
            None => {
                bad_from = bad_from.or(Some(at));
                next_frame(&bytes, at + 1).map(|at| (at, whole_frame(&bytes, at).unwrap_or(at)))
            }
        };
        let Some((begin, end)) = next else { break };
        if let Some(from) = bad_from.take() {
            tell_unreadable(path, number, &bytes[..begin], from, replay)?;
        }
        if let Err(error) = frame(&bytes[begin + FRAME..end]) {
            replay.damage.push(format!(
                "segment {number} of the journal: frame at {begin}: {error}"
            ));
        }
        at = end;
        good = end;
    }
    if !has_header && good > 0 {
        replay.damage.push(format!(
            "segment {number} of the journal: its header cannot be read"
        ));
        let file = OpenOptions::new().write(true).open(path)?;
        file.write_all_at(&header(number), 0)?;
        file.sync_all()?;
    }
    // Frames are whole before the next segment is begun.
    if good < bytes.len() && (!expected.is_last || !is_torn(&bytes, good)) {
        tell_unreadable(path, number, &bytes, good, replay)?;
    }
    Ok(good as u64)
}

/// Whether what begins at `at` may be one frame of which not all was written.
fn is_torn(bytes: &[u8], at: usize) -> bool {
    // Where the drive's block ends in between, the length may not have been written.
    if !bytes[at..].starts_with(MAGIC) || at % BLOCK > BLOCK - FRAME {
        return true;
    }
    let Some(len) = bytes.get(at + 4..at + 8) else {
        return true;
    };
    let len = u32::from_be_bytes(len.try_into().expect("four bytes")) as usize;
    bytes.len() - at <= FRAME.saturating_add(len)
}

/// Keeps the bytes from `from` on, and says so.
fn tell_unreadable(
    path: &Path,
    number: u32,
    bytes: &[u8],
    from: usize,
    replay: &mut Replay,
) -> io::Result<()> {
    set_aside(path, &bytes[from..])?;
    replay.damage.push(format!(
        "segment {number} of the journal: {} bytes from {from} on cannot be read",
        bytes.len() - from
    ));
    Ok(())
}

/// The end of the frame that begins at `at`, if it is whole.
fn whole_frame(bytes: &[u8], at: usize) -> Option<usize> {
    let head = bytes.get(at..at + FRAME)?;
    if &head[..4] != MAGIC {
        return None;
    }
    let number =
        |range: std::ops::Range<usize>| u32::from_be_bytes(head[range].try_into().expect("four bytes"));
    let end = at.checked_add(FRAME)?.checked_add(number(4..8) as usize)?;
    let records = bytes.get(at + FRAME..end)?;
    (crc32fast::hash(records) == number(8..12)).then_some(end)
}

fn next_frame(bytes: &[u8], from: usize) -> Option<usize> {
    let tail = bytes.get(from..)?;
    let mut starts = memchr::memmem::find_iter(tail, MAGIC);
    starts
        .find(|at| whole_frame(bytes, from + at).is_some())
        .map(|at| from + at)
}

/// Keeps what cannot be read, in case somebody can.
fn set_aside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = (1..)
        .map(|n| path.with_extension(format!("unreadable-{n}")))
        .find(|aside| !aside.exists())
        .expect("there is always a next number");
    std::fs::write(aside, bytes)
}
