//! Keys for the sessions of whoever has many.

use crate::SessionKey;

/// Whose session each key is. `O`: what is known of that.
///
/// Always true: a key is given once; whoever leaves is not found by it any more.
#[derive(Debug)]
pub struct Seats<O> {
    seats: Vec<Seat<O>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Seat<O> {
    generation: u32,
    occupant: Option<O>,
}

impl<O> Default for Seats<O> {
    fn default() -> Self {
        Self {
            seats: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<O: Copy> Seats<O> {
    /// A new key.
    pub fn take(&mut self, occupant: O) -> SessionKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.seats.push(Seat {
                generation: 0,
                occupant: None,
            });
            u32::try_from(self.seats.len() - 1).expect("fewer than four billion sessions")
        });
        let seat = &mut self.seats[index as usize];
        seat.occupant = Some(occupant);
        let generation = seat.generation;
        SessionKey { index, generation }
    }

    /// Whose it is; `None` for one that was left.
    pub fn occupant(&self, key: SessionKey) -> Option<O> {
        let seat = self.seats.get(key.index as usize)?;
        seat.occupant.filter(|_| seat.generation == key.generation)
    }

    /// A key is somebody else's from now on.
    pub fn change(&mut self, key: SessionKey, occupant: O) {
        self.seats[key.index as usize].occupant = Some(occupant);
    }

    /// A key is nobody's any more.
    pub fn leave(&mut self, key: SessionKey) {
        let seat = &mut self.seats[key.index as usize];
        seat.generation = seat.generation.wrapping_add(1);
        seat.occupant = None;
        self.free.push(key.index);
    }

    /// How many are taken.
    pub fn len(&self) -> usize {
        self.seats.len() - self.free.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_given_once() {
        let mut seats = Seats::default();
        let first = seats.take('a');
        seats.change(first, 'b');
        assert_eq!(seats.occupant(first), Some('b'));
        seats.leave(first);
        assert_eq!((seats.occupant(first), seats.len()), (None, 0));
        let second = seats.take('c');
        assert_eq!((second.index, seats.occupant(first)), (first.index, None));
        assert_eq!(seats.occupant(second), Some('c'));
    }
}
