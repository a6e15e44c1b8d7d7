//! The ledger of memory: what this process holds of messages, sessions and buffers, and how much it may.
//!
//! Bodies of messages are counted where they are made and where the last holder lets go, whoever that is: queues, deliveries on their way, retained
//! messages, wills, operations that wait for the disk. A message that a thousand clients wait for counts once. So the count is the process's,
//! not one bus's. Everything else is counted by who holds it.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

/// Each thread reports what it made and dropped when it comes to so many bytes: a counter that all threads write with each message would be dear.
const REPORT: isize = 64 << 10;

static MESSAGES: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    static UNREPORTED: Cell<isize> = const { Cell::new(0) };
}

/// Bytes of all messages that are alive, give or take 64 KiB for each thread.
pub fn messages() -> usize {
    let all = MESSAGES.load(Ordering::Relaxed) + UNREPORTED.get();
    usize::try_from(all).unwrap_or(0)
}

fn count(bytes: isize) {
    // While a thread ends its last messages may find no place to be noted: then the count is reported at once.
    let noted = UNREPORTED.try_with(|unreported| {
        let sum = unreported.get() + bytes;
        if sum.abs() < REPORT {
            unreported.set(sum);
            return;
        }
        unreported.set(0);
        MESSAGES.fetch_add(sum, Ordering::Relaxed);
    });
    if noted.is_err() {
        MESSAGES.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Bytes that count as long as this lives. A copy counts for nothing until it is made to.
#[derive(Debug, Default)]
pub struct Charge(u32);

impl Charge {
    /// Counts so many bytes from now on, instead of what it counted before.
    pub fn set(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        count(bytes as isize - self.0 as isize);
        self.0 = bytes;
    }
}

impl Clone for Charge {
    fn clone(&self) -> Self {
        Self(0)
    }
}

/// What a message costs is no part of what it says.
impl PartialEq for Charge {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Charge {}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.0 > 0 {
            count(-(self.0 as isize));
        }
    }
}

/// Bytes that a server of many clients holds, as the ledger knows them.
#[derive(Debug)]
pub struct Held {
    memory: Arc<MemoryLimit>,
    bytes: usize,
}

impl Held {
    /// None yet.
    pub fn new(memory: Arc<MemoryLimit>) -> Self {
        Self { memory, bytes: 0 }
    }

    /// So many from now on. Whether there is memory for more.
    pub fn set(&mut self, bytes: usize) -> bool {
        self.memory.change_buffers(self.bytes, bytes);
        self.bytes = bytes;
        self.memory.allows(Want::ToGoOn, self.memory.used())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.change_buffers(self.bytes, 0);
    }
}

/// Who wants memory. The first to be refused come first: each may use so many eighths of all there is, so that what comes later always finds some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// What stays: sessions, subscriptions, wills, retained and delayed messages.
    ToKeep = 4,
    /// Deliveries to clients that are too slow, and large buffers of connections.
    ToWait = 6,
    /// Messages of more than [`SMALL`] bytes.
    ToPublish = 7,
    /// Small messages, and connections.
    ToGoOn = 8,
}

/// Messages of so many bytes go on when larger ones are refused.
pub const SMALL: usize = 4 << 10;

/// How much memory there is for what clients make the gateway keep, and what is used of it. One for a gateway.
#[derive(Debug)]
pub struct MemoryLimit {
    max: AtomicUsize,
    /// Bytes in the buffers of connections.
    buffers: AtomicUsize,
    /// What the bus had of all else when it last looked.
    bus: AtomicUsize,
}

/// No limit.
impl Default for MemoryLimit {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl MemoryLimit {
    /// So many bytes; `usize::MAX` for no limit.
    pub fn new(max: usize) -> Self {
        Self {
            max: AtomicUsize::new(max),
            buffers: AtomicUsize::new(0),
            bus: AtomicUsize::new(0),
        }
    }

    /// The limit.
    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// Another limit from now on; `usize::MAX` for none.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Bytes in the buffers of connections.
    pub fn buffers(&self) -> usize {
        self.buffers.load(Ordering::Relaxed)
    }

    /// A connection holds `now` bytes, where it held `before`.
    pub fn change_buffers(&self, before: usize, now: usize) {
        if now >= before {
            self.buffers.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.buffers.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    /// What all take together; of the bus, when it last looked.
    pub fn used(&self) -> usize {
        self.bus.load(Ordering::Relaxed) + self.buffers()
    }

    /// The bus has looked.
    pub fn set_bus(&self, bytes: usize) {
        self.bus.store(bytes, Ordering::Relaxed);
    }

    /// Whether, where so much is used, there is something for this.
    pub fn allows(&self, want: Want, used: usize) -> bool {
        let max = self.max();
        max == usize::MAX || used <= max / 8 * want as usize
    }
}

#[cfg(test)]
mod tests {
    use crate::{Message, Topic};

    /// Other tests of the process hold little.
    #[test]
    fn messages_count_while_somebody_holds_them() {
        let before = super::messages();
        let message = Message::new(Topic::try_from("t").unwrap(), vec![0; 10 << 20]).share();
        let copy = message.compact();
        let other = std::sync::Arc::clone(&message);
        assert!(super::messages() - before >= 20 << 20);
        drop(copy);
        Message::recycle(message);
        assert!(super::messages() - before >= 10 << 20);
        drop(other);
        assert!(super::messages() < before + (1 << 20));
    }
}
