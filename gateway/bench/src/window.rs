//! The QoS 1 and 2 messages that a publisher has under way. [MQTT-4.9.0-1]

/// Packet identifiers, and what is under way under them.
#[derive(Debug)]
pub(super) struct Window {
    free: Vec<u16>,
    /// Number and time of what is under way, by identifier.
    sent: Vec<Option<(u64, u64)>>,
}

impl Window {
    /// So many at a time.
    pub(super) fn new(size: usize) -> Self {
        let size = size.clamp(1, usize::from(u16::MAX));
        Self {
            free: (1..=size as u16).rev().collect(),
            sent: vec![None; size + 1],
        }
    }

    /// The identifier for the message with this number, sent at `now`; `None` if the window is full.
    #[inline]
    pub(super) fn open(&mut self, number: u64, now: u64) -> Option<u16> {
        let id = self.free.pop()?;
        self.sent[usize::from(id)] = Some((number, now));
        Some(id)
    }

    /// It was acknowledged: its number, and when it was sent. `None` if nothing is under way under it.
    #[inline]
    pub(super) fn close(&mut self, id: u16) -> Option<(u64, u64)> {
        let closed = self.sent.get_mut(usize::from(id))?.take()?;
        self.free.push(id);
        Some(closed)
    }

    /// The numbers of what is under way.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.sent.iter().flatten().map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_free_again_once() {
        let mut window = Window::new(2);
        let ids = [window.open(7, 1), window.open(8, 2), window.open(9, 3)];
        assert_eq!(ids, [Some(1), Some(2), None]);
        assert_eq!(window.numbers().collect::<Vec<_>>(), [7, 8]);
        assert_eq!([window.close(1), window.close(1)], [Some((7, 1)), None]);
        assert_eq!([window.close(0), window.close(3)], [None, None]);
        assert_eq!(window.open(9, 4), Some(1));
    }
}
