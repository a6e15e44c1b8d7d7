//! A serial line with one peer, or many behind it: frames in, frames out; opened again whenever it was gone.
//!
//! Always true: whoever serves the line hears nothing of its going and coming, so that clients are kept over it; what was to be sent while it is gone is not sent later.

#[cfg(target_os = "linux")]
mod rs485;

use crate::datagram::{DatagramStats, DatagramTransport};
use crate::settings::{FlowControl, Parity, SerialSettings};
use bytes::{Buf, Bytes, BytesMut};
use headgate_access::{ConnectionInfo, PeerAddr};
use headgate_model::{Destination, Framer, FramerCounts};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep};
use tokio_serial::{ClearBuffer, SerialPort, SerialStream};

/// Bytes read at once.
const READ: usize = 4_096;
/// How long until a line that was lost is tried for the first time; each time after that twice as long.
const REOPEN_FIRST: Duration = Duration::from_millis(50);
/// What may wait to be sent: as much as the line takes in this time, but always a frame.
const BACKLOG: Duration = Duration::from_millis(250);
const LEAST_BACKLOG: usize = 2_048;

/// What is counted, in the order of [`COUNTERS`].
#[derive(Clone, Copy)]
enum Counter {
    BytesReceived,
    BytesSent,
    FramesReceived,
    FramesSent,
    FrameErrors,
    Skipped,
    Resyncs,
    Unsent,
    Opened,
    Lost,
    Open,
}

const COUNTERS: &[&str] = &[
    "bytes/received",
    "bytes/sent",
    "frames/received",
    "frames/sent",
    "frames/errors",
    "bytes/skipped",
    "resyncs",
    "frames/unsent",
    "opened",
    "lost",
    "open",
];

/// A serial line and its frames.
pub struct SerialTransport<F> {
    name: Arc<str>,
    mount_point: Option<Arc<str>>,
    settings: SerialSettings,
    framer: F,
    port: Port,
    /// How long until the line is tried again.
    pause: Duration,
    /// Why it could not be opened the last time: told once.
    trouble: Option<String>,
    read: Box<[u8; READ]>,
    writing: BytesMut,
    /// When the frame that has begun is given up.
    silence: Option<Pin<Box<Sleep>>>,
    stats: Arc<DatagramStats>,
    /// What the framer had seen when it was last looked at.
    seen: FramerCounts,
}

/// Whether the line is there.
enum Port {
    Open(Box<SerialStream>),
    Opening(JoinHandle<io::Result<SerialStream>>),
    Waiting(Pin<Box<Sleep>>),
}

/// Rates that systems know by name.
pub(crate) const NAMED_BAUDS: [u32; 30] = [
    50, 75, 110, 134, 150, 200, 300, 600, 1_200, 1_800, 2_400, 4_800, 9_600, 19_200, 38_400, 57_600, 115_200,
    230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000, 2_000_000, 2_500_000,
    3_000_000, 3_500_000, 4_000_000,
];

/// Others that are in use.
pub(crate) const USUAL_BAUDS: [u32; 9] = [
    7_200, 14_400, 28_800, 31_250, 56_000, 76_800, 128_000, 250_000, 256_000,
];

/// Whether this system takes rates that have no name. What the line's driver makes of them is another thing.
pub(crate) const fn takes_any_baud() -> bool {
    !cfg!(any(
        target_arch = "powerpc",
        target_arch = "powerpc64",
        target_os = "illumos"
    ))
}

impl SerialSettings {
    fn open(&self) -> io::Result<SerialStream> {
        let builder = tokio_serial::new(&self.port, self.baud)
            .data_bits(match self.data_bits {
                5 => tokio_serial::DataBits::Five,
                6 => tokio_serial::DataBits::Six,
                7 => tokio_serial::DataBits::Seven,
                _ => tokio_serial::DataBits::Eight,
            })
            .parity(match self.parity {
                Parity::None => tokio_serial::Parity::None,
                Parity::Odd => tokio_serial::Parity::Odd,
                Parity::Even => tokio_serial::Parity::Even,
            })
            .stop_bits(match self.stop_bits {
                2 => tokio_serial::StopBits::Two,
                _ => tokio_serial::StopBits::One,
            })
            .flow_control(match self.flow_control {
                FlowControl::None => tokio_serial::FlowControl::None,
                FlowControl::Hardware => tokio_serial::FlowControl::Hardware,
            });
        let stream = SerialStream::open(&builder)?;
        if let Some(rs485) = &self.rs485 {
            #[cfg(target_os = "linux")]
            rs485::configure(&stream, rs485)?;
            #[cfg(not(target_os = "linux"))]
            if rs485.enabled {
                return Err(io::Error::new(
                    ErrorKind::Unsupported,
                    "rs485 is not known to this system",
                ));
            }
        }
        Ok(stream)
    }
}

impl<F: Framer> SerialTransport<F> {
    /// A line that is opened as soon as it is served, and tried again until it is there.
    pub fn new(name: &str, mount_point: Option<&str>, settings: SerialSettings, framer: F) -> Self {
        Self {
            name: name.into(),
            mount_point: mount_point.map(Into::into),
            settings,
            framer,
            port: Port::Waiting(Box::pin(tokio::time::sleep(Duration::ZERO))),
            pause: REOPEN_FIRST,
            trouble: None,
            read: Box::new([0; READ]),
            writing: BytesMut::new(),
            silence: None,
            stats: Arc::new(DatagramStats::new(COUNTERS)),
            seen: FramerCounts::default(),
        }
    }

    /// Goes on with what an earlier one has counted.
    #[must_use]
    pub fn counting_on(mut self, stats: Arc<DatagramStats>) -> Self {
        stats.set(Counter::Open as usize, 0);
        self.stats = stats;
        self
    }

    /// Takes over other settings. Where they say another line, or other parameters of it, the line is opened anew; whoever serves it hears nothing of that.
    pub(crate) fn renew(&mut self, settings: SerialSettings, framer: F) {
        let line = |settings: &SerialSettings| SerialSettings {
            frame_timeout: Duration::ZERO,
            reopen_interval: Duration::ZERO,
            ..settings.clone()
        };
        let is_another = line(&self.settings) != line(&settings);
        self.settings = settings;
        (self.framer, self.seen, self.silence) = (framer, FramerCounts::default(), None);
        if is_another {
            self.stats.set(Counter::Open as usize, 0);
            self.writing.clear();
            (self.pause, self.trouble) = (REOPEN_FIRST, None);
            self.port = Port::Waiting(Box::pin(tokio::time::sleep(Duration::ZERO)));
        }
    }

    /// What it counts; lives on when the line is closed.
    pub fn stats(&self) -> Arc<DatagramStats> {
        Arc::clone(&self.stats)
    }

    fn count(&self, counter: Counter, n: usize) {
        self.stats.add(counter as usize, n as u64);
    }

    fn count_frames(&mut self) {
        let (now, before) = (self.framer.counts(), self.seen);
        for (counter, n) in [
            (Counter::FramesReceived, now.frames - before.frames),
            (Counter::FrameErrors, now.errors - before.errors),
            (Counter::Skipped, now.skipped - before.skipped),
            (Counter::Resyncs, now.resyncs - before.resyncs),
        ] {
            self.stats.add(counter as usize, n);
        }
        self.seen = now;
    }

    /// Waits until the line is open. Ready when it is.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.port {
                Port::Open(_) => return Poll::Ready(()),
                Port::Waiting(sleep) => {
                    ready!(sleep.as_mut().poll(cx));
                    let settings = self.settings.clone();
                    // A driver may take its time.
                    self.port = Port::Opening(tokio::task::spawn_blocking(move || settings.open()));
                }
                Port::Opening(opening) => match ready!(Pin::new(opening).poll(cx)) {
                    Ok(Ok(stream)) => {
                        tracing::info!(listener = %self.name, port = %self.settings.port, "serial line is open");
                        self.trouble = None;
                        self.count(Counter::Opened, 1);
                        self.stats.set(Counter::Open as usize, 1);
                        self.port = Port::Open(Box::new(stream));
                    }
                    Ok(Err(error)) => self.not_opened(&error.to_string()),
                    Err(error) => self.not_opened(&error.to_string()),
                },
            }
        }
    }

    fn not_opened(&mut self, error: &str) {
        if self.trouble.as_deref() != Some(error) {
            let port = &self.settings.port;
            tracing::warn!(listener = %self.name, %port, %error, "serial line cannot be opened for now");
            self.trouble = Some(error.to_owned());
        }
        self.wait();
    }

    fn lose(&mut self, error: &io::Error) {
        tracing::warn!(listener = %self.name, port = %self.settings.port, %error, "serial line is lost");
        self.count(Counter::Lost, 1);
        self.stats.set(Counter::Open as usize, 0);
        // What it still held is of no use, and closing would wait for it.
        if let Port::Open(stream) = &self.port {
            let _ = stream.clear(ClearBuffer::Output);
        }
        self.writing.clear();
        self.silence = None;
        while self.framer.on_silence() {
            while self.framer.next_frame().is_some() {}
        }
        self.wait();
    }

    fn wait(&mut self) {
        self.port = Port::Waiting(Box::pin(tokio::time::sleep(self.pause)));
        self.pause = (self.pause * 2).min(self.settings.reopen_interval.max(REOPEN_FIRST));
    }

    /// Hands on what a silence shows to be whole after all. Whether there was a frame.
    fn poll_silence(&mut self, cx: &mut Context<'_>, sink: &mut dyn FnMut((), Bytes)) -> bool {
        let Some(silence) = &mut self.silence else {
            return false;
        };
        if silence.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.silence = None;
        let mut found = false;
        while self.framer.on_silence() {
            while let Some(frame) = self.framer.next_frame() {
                sink((), frame);
                found = true;
            }
        }
        self.count_frames();
        found
    }

    /// Takes what was read. Whether there was a whole frame.
    fn take(&mut self, len: usize, sink: &mut dyn FnMut((), Bytes)) -> bool {
        self.count(Counter::BytesReceived, len);
        let mut found = false;
        let mut from = 0;
        loop {
            from += self.framer.push(&self.read[from..len]);
            while let Some(frame) = self.framer.next_frame() {
                sink((), frame);
                found = true;
            }
            if from == len {
                break;
            }
        }
        self.count_frames();
        let until = Instant::now() + self.settings.frame_timeout;
        match &mut self.silence {
            Some(silence) => silence.as_mut().reset(until),
            None => self.silence = Some(Box::pin(tokio::time::sleep_until(until))),
        }
        found
    }
}

impl<F: Framer + Unpin> DatagramTransport for SerialTransport<F> {
    type Address = ();

    fn poll_receive(&mut self, cx: &mut Context<'_>, sink: &mut dyn FnMut((), Bytes)) -> Poll<()> {
        loop {
            ready!(self.poll_open(cx));
            let Port::Open(stream) = &mut self.port else {
                continue;
            };
            let mut room = ReadBuf::new(&mut self.read[..]);
            match Pin::new(stream).poll_read(cx, &mut room) {
                Poll::Ready(Ok(())) if room.filled().is_empty() => {
                    self.lose(&io::Error::from(ErrorKind::UnexpectedEof));
                }
                Poll::Ready(Ok(())) => {
                    let len = room.filled().len();
                    self.pause = REOPEN_FIRST;
                    if self.take(len, sink) {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(Err(error)) => self.lose(&error),
                Poll::Pending => {
                    return if self.poll_silence(cx, sink) {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    };
                }
            }
        }
    }

    fn send(&mut self, _: Destination<()>, bytes: &[u8]) {
        if let Port::Open(_) = self.port {
            self.framer.encode(bytes, &mut self.writing);
            self.count(Counter::FramesSent, 1);
        } else {
            self.count(Counter::Unsent, 1);
        }
    }

    fn has_room(&self) -> bool {
        let a_second = u64::from(self.settings.baud) / 10;
        let backlog = a_second * u64::try_from(BACKLOG.as_millis()).unwrap_or(u64::MAX) / 1_000;
        self.writing.len() < LEAST_BACKLOG.max(usize::try_from(backlog).unwrap_or(usize::MAX))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.writing.is_empty() {
            let Port::Open(stream) = &mut self.port else {
                self.writing.clear();
                break;
            };
            match ready!(Pin::new(stream).poll_write(cx, &self.writing)) {
                Ok(0) => self.lose(&io::Error::from(ErrorKind::WriteZero)),
                Ok(n) => {
                    self.writing.advance(n);
                    self.count(Counter::BytesSent, n);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.lose(&error);
                    // The reader opens it again.
                    cx.waker().wake_by_ref();
                }
            }
        }
        Poll::Ready(())
    }

    fn info(&self, _: Option<()>) -> ConnectionInfo {
        ConnectionInfo {
            mount_point: self.mount_point.clone(),
            ..ConnectionInfo::new(Arc::clone(&self.name), PeerAddr::Serial)
        }
    }

    fn stats(&self) -> &Arc<DatagramStats> {
        &self.stats
    }

    fn describe(&self) -> (&str, String) {
        (&self.name, self.settings.port.clone())
    }
}
