//! A serial line with MQTT-SN devices at its end: a pseudo terminal behind a name that stays the same, which can be pulled and plugged in again, and on which
//! noise falls. One device has the line for itself, or several share it by forwarder encapsulation, MQTT-SN 1.2 §5.5.

use super::sn::{Habits, SnPeer, SnWire};
use super::sn_frames::{SnDeframer, SnFraming};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// After so long a frame that has begun does not go on.
const SILENCE: Duration = Duration::from_millis(30);
/// How often the reader looks whether the device is pulled.
const TICK: Duration = Duration::from_millis(2);
/// Devices ask again after so long, and so often.
const T_RETRY: Duration = Duration::from_millis(100);
const N_RETRY: u32 = 4;

/// What happens to frames on the way, in percent of them, in either direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noise {
    /// Bytes of no meaning come before it.
    pub between: u8,
    /// Up to three of its bits are another.
    pub flips: u8,
    /// One of its bytes is lost.
    pub losses: u8,
}

/// The line.
pub struct SnLine {
    folder: tempfile::TempDir,
    shared: Arc<Shared>,
    plugged: Mutex<Option<(Arc<AtomicBool>, JoinHandle<()>)>>,
}

struct Shared {
    framing: SnFraming,
    device: Mutex<Option<File>>,
    weather: Mutex<(Noise, fastrand::Rng)>,
    /// Devices by their wireless node id; without one the device that has the line for itself.
    devices: Mutex<BTreeMap<Vec<u8>, Sender<Vec<u8>>>>,
    bytes: AtomicUsize,
    frames: AtomicUsize,
    heard: AtomicUsize,
}

impl SnLine {
    /// A line without noise that is plugged in.
    ///
    /// # Panics
    /// If there is no folder for its name.
    pub fn new(framing: SnFraming, seed: u64) -> Self {
        let line = Self {
            folder: tempfile::tempdir().expect("a folder"),
            shared: Arc::new(Shared {
                framing,
                device: Mutex::default(),
                weather: Mutex::new((Noise::default(), fastrand::Rng::with_seed(seed))),
                devices: Mutex::default(),
                bytes: AtomicUsize::new(0),
                frames: AtomicUsize::new(0),
                heard: AtomicUsize::new(0),
            }),
            plugged: Mutex::default(),
        };
        line.plug_in();
        line
    }

    /// The name of the port at the gateway's end.
    pub fn port(&self) -> PathBuf {
        self.folder.path().join("tty")
    }

    /// From now on.
    ///
    /// # Panics
    /// If a device has panicked.
    pub fn noise(&self, noise: Noise) {
        self.shared.weather.lock().expect("no panic").0 = noise;
    }

    /// A device on the line: under a wireless node id, or with the line for itself.
    ///
    /// # Panics
    /// If a device has panicked.
    pub fn device(&self, id: &str, node: &[u8]) -> SnPeer {
        let (sender, messages) = channel();
        let mut devices = self.shared.devices.lock().expect("no panic");
        devices.insert(node.to_vec(), sender);
        let port = LinePort {
            shared: Arc::clone(&self.shared),
            node: node.to_vec(),
            messages: Mutex::new(messages),
        };
        let habits = Habits {
            t_retry: T_RETRY,
            n_retry: N_RETRY,
            lossy: true,
        };
        SnPeer::over(Box::new(port), habits, id)
    }

    /// Any bytes, without a frame around them.
    pub fn raw(&self, bytes: &[u8]) {
        self.shared.write(bytes);
    }

    /// What went over it so far: bytes that were sent to the gateway, frames among them, frames that came from it.
    pub fn traffic(&self) -> [u64; 3] {
        let Shared {
            bytes, frames, heard, ..
        } = &*self.shared;
        [bytes, frames, heard].map(|count| count.load(Ordering::SeqCst) as u64)
    }

    /// The device is pulled; its name is gone.
    ///
    /// # Panics
    /// If its reader has panicked.
    pub fn unplug(&self) {
        // A name that is not there cannot be removed.
        let _ = std::fs::remove_file(self.port());
        if let Some((pulled, reader)) = self.plugged.lock().expect("no panic").take() {
            pulled.store(true, Ordering::SeqCst);
            *self.shared.device.lock().expect("no panic") = None;
            reader.join().expect("the reader ends");
        }
    }

    /// Another device is there, under the same name.
    ///
    /// # Panics
    /// If the system has no pseudo terminal.
    pub fn plug_in(&self) {
        self.unplug();
        let (here, name) = pseudo_terminal().expect("a pseudo terminal");
        let reading = here.try_clone().expect("a descriptor");
        *self.shared.device.lock().expect("no panic") = Some(here);
        let pulled = Arc::new(AtomicBool::new(false));
        let reader = {
            let (shared, pulled) = (Arc::clone(&self.shared), Arc::clone(&pulled));
            std::thread::spawn(move || shared.read(reading, &pulled))
        };
        *self.plugged.lock().expect("no panic") = Some((pulled, reader));
        std::os::unix::fs::symlink(name, self.port()).expect("its name is free");
    }
}

impl Drop for SnLine {
    fn drop(&mut self) {
        self.unplug();
    }
}

impl Shared {
    fn send(&self, message: &[u8]) {
        let frame = self.spoil(&self.framing.frame(message), true);
        self.frames.fetch_add(1, Ordering::SeqCst);
        self.write(&frame);
    }

    fn write(&self, bytes: &[u8]) {
        if let Some(device) = self.device.lock().expect("no panic").as_mut() {
            // What the line does not take is lost.
            if device.write_all(bytes).is_ok() {
                self.bytes.fetch_add(bytes.len(), Ordering::SeqCst);
            }
        }
    }

    fn read(&self, mut from: File, pulled: &AtomicBool) {
        let mut deframer = SnDeframer::new(self.framing);
        let mut bytes = [0; 4096];
        let mut heard = Instant::now();
        while !pulled.load(Ordering::SeqCst) {
            let found = match read_within(&mut from, &mut bytes, TICK) {
                Ok(Some(len)) => {
                    heard = Instant::now();
                    let between = deframer.is_idle() || self.framing == SnFraming::Hdlc;
                    deframer.take(&self.spoil(&bytes[..len], between))
                }
                Ok(None) if heard.elapsed() > SILENCE => deframer.on_silence(),
                Ok(None) => continue,
                // Nobody has the port open.
                Err(_) => {
                    std::thread::sleep(TICK);
                    continue;
                }
            };
            found.into_iter().for_each(|frame| self.hand_out(frame));
        }
    }

    /// To the device whose it is.
    fn hand_out(&self, frame: Vec<u8>) {
        self.heard.fetch_add(1, Ordering::SeqCst);
        let (node, message) = match frame[..] {
            [len, 0xFE, _, ..] => (&frame[3..usize::from(len)], &frame[usize::from(len)..]),
            _ => (&[][..], &frame[..]),
        };
        if let Some(device) = self.devices.lock().expect("no panic").get(node) {
            // A device may be gone.
            let _ = device.send(message.to_vec());
        }
    }

    /// What becomes of bytes on the way; noise comes before them only where it may.
    fn spoil(&self, bytes: &[u8], between: bool) -> Vec<u8> {
        let (noise, rng) = &mut *self.weather.lock().expect("no panic");
        let mut arrives = bytes.to_vec();
        if rng.u8(..100) < noise.flips {
            for _ in 0..rng.usize(1..=3) {
                let at = rng.usize(..arrives.len());
                arrives[at] ^= 1 << rng.u8(..8);
            }
        }
        if rng.u8(..100) < noise.losses {
            arrives.remove(rng.usize(..arrives.len()));
        }
        if rng.u8(..100) < noise.between && between {
            let len = rng.usize(1..=12);
            let mut before: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(len).collect();
            if rng.bool() {
                // What follows looks like a part of it: a length and a PUBLISH.
                before.extend([rng.u8(9..60), 0x0C]);
            }
            arrives.splice(0..0, before);
        }
        arrives
    }
}

/// One end, which no other program gets to hold, and the other one's name.
fn pseudo_terminal() -> io::Result<(File, PathBuf)> {
    let end = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&end)?;
    unlockpt(&end)?;
    let mut termios = tcgetattr(&end)?;
    termios.make_raw();
    tcsetattr(&end, OptionalActions::Now, &termios)?;
    // Nobody waits for a gateway that does not read.
    rustix::io::ioctl_fionbio(&end, true)?;
    let name = ptsname(&end, Vec::new())?;
    let name = name.into_string().map_err(io::Error::other)?;
    Ok((end.into(), name.into()))
}

/// What is there, or comes in time.
fn read_within(from: &mut File, bytes: &mut [u8], within: Duration) -> io::Result<Option<usize>> {
    let within = Timespec::try_from(within).map_err(io::Error::other)?;
    let ready = poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&within))?;
    match ready {
        0 => Ok(None),
        _ => from.read(bytes).map(Some),
    }
}

/// Where a device is.
struct LinePort {
    shared: Arc<Shared>,
    node: Vec<u8>,
    messages: Mutex<Receiver<Vec<u8>>>,
}

impl SnWire for LinePort {
    fn send(&self, bytes: &[u8]) {
        if self.node.is_empty() {
            return self.shared.send(bytes);
        }
        let len = u8::try_from(self.node.len() + 3).expect("a short id");
        self.shared
            .send(&[&[len, 0xFE, 0], &self.node[..], bytes].concat());
    }

    fn receive(&self, within: Duration) -> Option<Vec<u8>> {
        self.messages.lock().expect("no panic").recv_timeout(within).ok()
    }
}
