//! A place on the bus for an endpoint, with one session or with many.

use super::group::Group;
use super::hub::Hub;
use super::mailbox::Call;
use super::port::Port;
use headgate_model::{Instant, Many, One, Sessions};
use std::collections::VecDeque;
use std::task::{Context, Poll};

/// [`Sessions`] that the hub has places for.
pub trait Attach: Sessions {
    /// Such a place.
    type Place: Place<Sessions = Self> + Send;

    /// A new place.
    fn attach(hub: &Hub) -> Self::Place;
}

/// What a task does with its place on the bus. Dropping a place leaves the bus as lost connections do.
pub trait Place {
    /// How many sessions have room in it.
    type Sessions: Sessions;

    /// The bus it is attached to.
    fn hub(&self) -> &Hub;

    /// Takes as many commands, in order, as are short work, and leaves the others. Whether all is done: if not, this must be called again, with no command or
    /// more behind those that are left, after everybody else has had a turn.
    fn submit_some(&mut self, commands: &mut Vec<<Self::Sessions as Sessions>::Command>) -> bool;

    /// Ready when there are events or the alarm rang. Otherwise `cx` is woken when it is so, or when [`Hub::says_goodbye`].
    fn poll_call(&self, cx: &Context<'_>) -> Poll<Call>;

    /// Lets [`Place::poll_call`] be ready from then on, once. The alarm that was set before does not ring any more.
    fn wake_at(&self, at: Instant);

    /// Moves all events that are there into `into`.
    fn take_events(&self, into: &mut VecDeque<<Self::Sessions as Sessions>::Event>);

    /// Its connection holds so many bytes in buffers from now on, which count in the ledger of memory.
    fn hold_buffers(&self, bytes: usize);
}

/// Implements [`Place`] by what the type does itself.
macro_rules! place {
    ($place:ident, $sessions:ident, $attach:ident) => {
        impl Attach for $sessions {
            type Place = $place;

            fn attach(hub: &Hub) -> $place {
                hub.$attach()
            }
        }

        impl Place for $place {
            type Sessions = $sessions;

            fn hub(&self) -> &Hub {
                $place::hub(self)
            }

            fn submit_some(&mut self, commands: &mut Vec<<$sessions as Sessions>::Command>) -> bool {
                $place::submit_some(self, commands)
            }

            fn poll_call(&self, cx: &Context<'_>) -> Poll<Call> {
                $place::poll_call(self, cx)
            }

            fn wake_at(&self, at: Instant) {
                $place::wake_at(self, at);
            }

            fn take_events(&self, into: &mut VecDeque<<$sessions as Sessions>::Event>) {
                $place::take_events(self, into);
            }

            fn hold_buffers(&self, bytes: usize) {
                $place::hold_buffers(self, bytes);
            }
        }
    };
}

place!(Port, One, attach);
place!(Group, Many, group);
