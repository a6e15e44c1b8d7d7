//! Lines in a file, which is put aside when it is large enough: `gateway.log`, then `gateway.log.1`, the latest, to `gateway.log.{keep}`.
//!
//! The libraries for this panic when somebody takes the file away, or lose lines silently when the disk is full; so it is done here.

use super::destination::Sink;
use super::line::Line;
use crate::config::{LogFileSettings, LogFormat};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tracing::Level;

/// How often it is looked whether the file was taken away.
const LOOK: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct FileSink {
    settings: LogFileSettings,
    format: LogFormat,
    open: Option<Open>,
    /// Whole lines that are not written yet,
    held: String,
    /// and until when they may wait.
    due: Option<Instant>,
}

struct Open {
    file: File,
    bytes: u64,
    /// No device or pipe, which is never put aside.
    is_plain: bool,
    looked: Instant,
    /// The last line is there in part.
    torn: bool,
}

impl FileSink {
    /// The file is opened with the first line.
    pub(super) fn new(settings: LogFileSettings, format: LogFormat) -> Self {
        Self {
            settings,
            format,
            open: None,
            held: String::new(),
            due: None,
        }
    }

    fn open(&mut self) -> io::Result<&mut Open> {
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.looked.elapsed() >= LOOK)
        {
            let is_there = self.is_there();
            self.open = self.open.take().filter(|_| is_there);
            if let Some(open) = &mut self.open {
                open.looked = Instant::now();
            }
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let path = &self.settings.path;
                if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                    fs::create_dir_all(folder)?;
                }
                let file = OpenOptions::new().create(true).append(true).open(path)?;
                let metadata = file.metadata()?;
                Open {
                    bytes: metadata.len(),
                    is_plain: metadata.is_file(),
                    file,
                    looked: Instant::now(),
                    torn: false,
                }
            }
        };
        Ok(self.open.insert(open))
    }

    /// Whether the file that is open is the one of this name.
    fn is_there(&self) -> bool {
        let of_name = fs::metadata(&self.settings.path);
        let of_file = self.open.as_ref().map(|open| open.file.metadata());
        match (of_name, of_file) {
            (Ok(name), Some(Ok(file))) => (name.dev(), name.ino()) == (file.dev(), file.ino()),
            _ => false,
        }
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.settings.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    /// Puts the file aside, and forgets the oldest.
    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        let keep = self.settings.keep;
        if keep == 0 {
            return missing_is_fine(fs::remove_file(&self.settings.path));
        }
        for number in (1..keep).rev() {
            missing_is_fine(fs::rename(self.numbered(number), self.numbered(number + 1)))?;
        }
        missing_is_fine(fs::rename(&self.settings.path, self.numbered(1)))
    }
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

impl Sink for FileSink {
    fn write(&mut self, line: &Line) -> io::Result<()> {
        let text = line.written(self.format, false);
        let room = self.settings.hold_bytes;
        if self.held.len() + text.len() > room {
            self.flush()?;
        }
        if text.len() > room {
            return self.put(text);
        }
        self.held.push_str(&text);
        let now = Instant::now();
        match line.level {
            // What came to it is to be read with it.
            Level::ERROR => self.due = Some(now),
            _ => self.due = self.due.or(Some(now + self.settings.hold_for)),
        }
        Ok(())
    }

    fn due(&self) -> Option<Instant> {
        self.due
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.held.is_empty() {
            // A part of it may be there when it fails: as of a line, all of it comes once more.
            self.put(self.held.clone())?;
        }
        self.held = String::new();
        self.due = None;
        Ok(())
    }
}

impl FileSink {
    fn put(&mut self, mut text: String) -> io::Result<()> {
        let max = self.settings.max_bytes;
        let open = self.open()?;
        if open.is_plain && open.bytes > 0 && open.bytes + text.len() as u64 > max {
            self.rotate()?;
        }
        let open = self.open()?;
        if open.torn {
            text.insert(0, '\n');
        }
        let before = open.bytes;
        let mut left = text.as_bytes();
        while !left.is_empty() {
            match open.file.write(left) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    left = &left[n..];
                    open.bytes += n as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    open.torn |= open.bytes > before;
                    return Err(error);
                }
            }
        }
        open.torn = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &std::path::Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn at(path: PathBuf) -> LogFileSettings {
        LogFileSettings {
            path,
            max_bytes: 1 << 20,
            keep: 1,
            hold_bytes: 0,
            hold_for: Duration::from_secs(600),
        }
    }

    /// S07: lines wait until there are enough, until one of them is an error, or until they have waited for long enough.
    #[test]
    fn lines_may_wait_to_spare_the_flash() {
        let folder = tempfile::tempdir().unwrap();
        let settings = LogFileSettings {
            hold_bytes: 1_000,
            ..at(folder.path().join("gateway.log"))
        };
        let mut sink = FileSink::new(settings.clone(), LogFormat::Text);
        let written = || {
            let text = fs::read_to_string(&settings.path).unwrap_or_default();
            assert!(text.is_empty() || text.ends_with('\n'));
            text.lines().count()
        };
        let start = Instant::now();
        sink.write(&Line::of_loss(0)).unwrap();
        assert_eq!(written(), 0);
        let due = sink.due().unwrap();
        assert!(due >= start + settings.hold_for);
        let mut n = 1;
        while written() == 0 {
            sink.write(&Line::of_loss(n)).unwrap();
            assert!(sink.held.len() <= 1_000);
            n += 1;
        }
        assert_eq!(written() as u64, n - 1, "the last one waits for others");
        sink.flush().unwrap();
        assert_eq!((written() as u64, sink.due()), (n, None));
        let mut error = Line::of_loss(n);
        error.level = Level::ERROR;
        sink.write(&error).unwrap();
        assert!(sink.due().unwrap() <= Instant::now(), "it is written now");
        sink.flush().unwrap();
        assert_eq!(written() as u64, n + 1);
    }

    #[test]
    fn a_file_is_put_aside_when_it_is_large_enough() {
        let folder = tempfile::tempdir().unwrap();
        let settings = LogFileSettings {
            max_bytes: 1_000,
            keep: 2,
            ..at(folder.path().join("logs/gateway.log"))
        };
        let mut sink = FileSink::new(settings.clone(), LogFormat::Text);
        for n in 0..100 {
            sink.write(&Line::of_loss(n)).unwrap();
        }
        let logs = folder.path().join("logs");
        assert_eq!(names(&logs), ["gateway.log", "gateway.log.1", "gateway.log.2"]);
        let mut last = Vec::new();
        for name in ["gateway.log.2", "gateway.log.1", "gateway.log"] {
            let text = fs::read_to_string(logs.join(name)).unwrap();
            assert!(text.len() <= 1_000 && text.ends_with('\n'));
            last.extend(text.lines().map(str::to_owned));
        }
        let numbers = last
            .iter()
            .map(|line| line.rsplit('=').next().unwrap().parse::<u64>().unwrap());
        let first = 100 - last.len() as u64;
        assert!(numbers.eq(first..100), "in order, and none is missing: {last:?}");

        // Another start goes on in the same file.
        let before = fs::metadata(&settings.path).unwrap().len();
        FileSink::new(settings.clone(), LogFormat::Text)
            .write(&Line::of_loss(1))
            .unwrap();
        let after = fs::metadata(&settings.path).unwrap().len();
        assert!(after > before || names(&logs).len() == 3);
    }

    /// As `logrotate` does.
    #[test]
    fn a_file_that_is_taken_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let settings = LogFileSettings {
            keep: 0,
            ..at(folder.path().join("gateway.log"))
        };
        let mut sink = FileSink::new(settings.clone(), LogFormat::Text);
        sink.write(&Line::of_loss(1)).unwrap();
        fs::rename(&settings.path, folder.path().join("away")).unwrap();
        sink.open.as_mut().unwrap().looked -= LOOK;
        sink.write(&Line::of_loss(2)).unwrap();
        assert!(fs::read_to_string(&settings.path).unwrap().ends_with("lost=2\n"));
    }

    /// Nobody's device gets another name.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_is_not_put_aside() {
        let settings = LogFileSettings {
            max_bytes: 1,
            ..at("/dev/null".into())
        };
        let mut sink = FileSink::new(settings, LogFormat::Text);
        for n in 0..10 {
            sink.write(&Line::of_loss(n)).unwrap();
            sink.open.as_mut().unwrap().bytes = 1_000;
        }
        assert!(fs::metadata("/dev/null").is_ok_and(|null| !null.is_file()));
    }

    /// Linux has a device that is always full.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_and_no_more() {
        let error = FileSink::new(at("/dev/full".into()), LogFormat::Text)
            .write(&Line::of_loss(1))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }
}
