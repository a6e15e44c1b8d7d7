//! How many sessions on the bus an endpoint may have, and so how its commands and the bus's events say which one is meant.

use crate::{BusCommand, BusEvent};
use std::fmt::Debug;

/// Names one session of an endpoint or a server, from the question that lets its client in to [`BusCommand::Close`]; what comes for one that is gone is not
/// taken. Chosen by whoever opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    /// Small numbers, used again.
    pub index: u32,
    /// Changes with every use.
    pub generation: u32,
}

/// How many sessions an endpoint may have: [`One`] or [`Many`].
pub trait Sessions: Debug + 'static {
    /// What goes to the bus.
    type Command: Debug + Send;
    /// What comes from the bus.
    type Event: Debug + Send;

    /// What the bus says, whichever session it is about.
    fn said(event: &Self::Event) -> &BusEvent;

    /// What is said to the bus, whichever session it is for.
    fn command(command: &Self::Command) -> &BusCommand;

    /// The same, with the session's key where there may be several.
    fn command_of(command: &mut Self::Command) -> (Option<SessionKey>, &mut BusCommand);

    /// Which session the bus speaks of, where there may be several.
    fn key(event: &Self::Event) -> Option<SessionKey>;
}

/// One session, which need not be named.
#[derive(Debug)]
pub enum One {}

impl Sessions for One {
    type Command = BusCommand;
    type Event = BusEvent;

    fn said(event: &BusEvent) -> &BusEvent {
        event
    }

    fn command(command: &BusCommand) -> &BusCommand {
        command
    }

    fn command_of(command: &mut BusCommand) -> (Option<SessionKey>, &mut BusCommand) {
        (None, command)
    }

    fn key(_: &BusEvent) -> Option<SessionKey> {
        None
    }
}

/// Any number of sessions, each with a key. [`BusCommand::Open`] is the first of a key, [`BusCommand::Close`] the last. All commands are done in their order,
/// whichever sessions they are for.
#[derive(Debug)]
pub enum Many {}

impl Sessions for Many {
    type Command = (SessionKey, BusCommand);
    type Event = (SessionKey, BusEvent);

    fn said((_, event): &(SessionKey, BusEvent)) -> &BusEvent {
        event
    }

    fn command((_, command): &(SessionKey, BusCommand)) -> &BusCommand {
        command
    }

    fn command_of((key, command): &mut (SessionKey, BusCommand)) -> (Option<SessionKey>, &mut BusCommand) {
        (Some(*key), command)
    }

    fn key((key, _): &(SessionKey, BusEvent)) -> Option<SessionKey> {
        Some(*key)
    }
}
