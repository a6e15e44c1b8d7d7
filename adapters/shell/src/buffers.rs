//! Buffers that links read into and write from, lent while there are bytes in them: an idle link holds none.
//!
//! A buffer that was read into may still be shared by messages on their way. So the pool gives out the one that came back first; if that is still
//! shared it goes to the end of the line, and is left to its messages when the line is full.

use bytes::BytesMut;
use std::cell::RefCell;
use std::collections::VecDeque;

/// Room in a buffer that is lent.
pub(crate) const ROOM: usize = 8 << 10;
/// Buffers that grew larger are not kept.
pub(crate) const LARGEST: usize = 64 << 10;
/// Buffers kept by each thread.
const KEPT: usize = 64;
/// So many are tried before another one is made.
const TRIED: usize = 4;

thread_local! {
    static POOL: RefCell<VecDeque<BytesMut>> = const { RefCell::new(VecDeque::new()) };
}

/// Makes room in a buffer that has none.
pub(crate) fn lend(buffer: &mut BytesMut) {
    if buffer.capacity() == 0 {
        let spare = POOL.with_borrow_mut(unshared);
        *buffer = spare.unwrap_or_else(|| BytesMut::with_capacity(ROOM));
    }
}

fn unshared(pool: &mut VecDeque<BytesMut>) -> Option<BytesMut> {
    for _ in 0..TRIED.min(pool.len()) {
        let mut spare = pool.pop_front()?;
        if spare.try_reclaim(ROOM) {
            return Some(spare);
        }
        if pool.len() < KEPT - 1 {
            pool.push_back(spare);
        }
    }
    None
}

/// Takes a buffer back if nothing is in it.
pub(crate) fn rest(buffer: &mut BytesMut) {
    if !buffer.is_empty() || buffer.capacity() == 0 {
        return;
    }
    let buffer = std::mem::take(buffer);
    if buffer.capacity() <= LARGEST {
        POOL.with_borrow_mut(|pool| {
            if pool.len() < KEPT {
                pool.push_back(buffer);
            }
        });
    }
}

/// Gives up the room that a little in a large buffer does not need: the one who held it before may have had more.
pub(crate) fn fit(buffer: &mut BytesMut) {
    if buffer.len() <= ROOM && buffer.capacity() > ROOM {
        let mut small = BytesMut::with_capacity(ROOM);
        small.extend_from_slice(buffer);
        *buffer = small;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_lent_again_when_nobody_shares_it() {
        let mut buffer = BytesMut::new();
        lend(&mut buffer);
        buffer.extend_from_slice(b"message");
        let place = buffer.as_ptr();
        let message = buffer.split().freeze();
        rest(&mut buffer);
        assert_eq!(buffer.capacity(), 0, "it holds none");

        lend(&mut buffer);
        assert_ne!(buffer.as_ptr(), place, "the message still needs it");
        assert_eq!(message, "message");

        let place = buffer.as_ptr();
        rest(&mut buffer);
        lend(&mut buffer);
        assert_eq!(buffer.as_ptr(), place);
        assert!(buffer.capacity() >= ROOM);
    }

    #[test]
    fn what_is_in_a_buffer_stays() {
        let mut buffer = BytesMut::from(&b"half a packet"[..]);
        rest(&mut buffer);
        lend(&mut buffer);
        assert_eq!(buffer, "half a packet");
    }

    #[test]
    fn a_little_in_a_large_buffer_keeps_a_small_one() {
        let mut buffer = BytesMut::with_capacity(LARGEST);
        buffer.extend_from_slice(b"half a packet");
        fit(&mut buffer);
        assert_eq!((&buffer[..], buffer.capacity()), (&b"half a packet"[..], ROOM));
        let mut large = BytesMut::from(&[0; LARGEST][..]);
        fit(&mut large);
        assert_eq!(large.len(), LARGEST);
    }
}
