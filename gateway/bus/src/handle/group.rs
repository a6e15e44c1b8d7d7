//! Many endpoints with one mailbox, for protocols without connections: one task serves all clients of a socket.
//!
//! Always true: an attached endpoint costs one place of 16 bytes here and one seat of 8 bytes in its group, and nothing of its own on the heap; a key that
//! sleeps costs the seat.

use super::hub::{Core, Hub};
use super::mailbox::{Call, LARGEST_SPARE, Mailbox};
use super::port::Port;
use crate::bus::Bus;
use headgate_model::{BusCommand, BusEvent, CloseReason, EndpointId, Instant, SessionKey};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Endpoints that are lost in one turn at most: the lock is short.
const LOST_PER_TURN: usize = 256;

/// Set in the lower half of the number of an endpoint that belongs to a group.
const MEMBER: u32 = 1 << 31;
/// No group, and nobody's place.
const NONE: u32 = u32::MAX;

/// All groups, and the endpoints in them.
#[derive(Default)]
pub(super) struct Groups {
    boxes: Vec<Option<Arc<GroupBox>>>,
    free_boxes: Vec<u32>,
    members: Vec<Member>,
    free: Vec<u32>,
}

/// Events on their way to the endpoints of one group.
struct GroupBox {
    /// Wakes the group's task. Its own queue stays empty.
    mailbox: Arc<Mailbox>,
    events: Mutex<VecDeque<(SessionKey, BusEvent)>>,
}

/// One endpoint of a group.
#[derive(Clone, Copy)]
struct Member {
    key: SessionKey,
    group: u32,
    /// The upper half of its number.
    generation: u32,
}

/// Who has a key's index in a group.
#[derive(Clone, Copy)]
struct Seat {
    member: u32,
    generation: u32,
}

const _: () = assert!(
    size_of::<Member>() == 16 && size_of::<Seat>() == 8,
    "a gateway has a million of these"
);

/// Whether the endpoint's events go to a group's mailbox.
pub(super) fn is_member(id: EndpointId) -> bool {
    id.0 as u32 & MEMBER != 0
}

impl Groups {
    /// Puts an event into the mailbox of the endpoint's group, unless the endpoint is gone.
    pub(super) fn deliver(&self, to: EndpointId, event: BusEvent, woken: &mut Vec<Waker>) {
        let index = (to.0 as u32 & !MEMBER) as usize;
        let generation = (to.0 >> 32) as u32;
        let member = self.members.get(index).filter(|m| m.generation == generation);
        let Some(member) = member.filter(|member| member.group != NONE) else {
            return;
        };
        let Some(group) = &self.boxes[member.group as usize] else {
            return;
        };
        group.events.lock().push_back((member.key, event));
        woken.extend(group.mailbox.inner.lock().waker.take());
    }

    /// A number for one more group.
    fn add(&mut self, shared: Arc<GroupBox>) -> u32 {
        if let Some(number) = self.free_boxes.pop() {
            self.boxes[number as usize] = Some(shared);
            return number;
        }
        self.boxes.push(Some(shared));
        u32::try_from(self.boxes.len() - 1).expect("fewer than four billion groups")
    }

    fn remove(&mut self, number: u32) {
        self.boxes[number as usize] = None;
        self.free_boxes.push(number);
    }

    fn attach(&mut self, group: u32, key: SessionKey, generation: u32) -> u32 {
        let member = Member {
            key,
            group,
            generation,
        };
        if let Some(index) = self.free.pop() {
            self.members[index as usize] = member;
            return index;
        }
        self.members.push(member);
        let index = u32::try_from(self.members.len() - 1).unwrap_or(MEMBER);
        assert!(index < MEMBER, "fewer than two billion endpoints in groups");
        index
    }

    fn detach(&mut self, index: u32) {
        self.members[index as usize].group = NONE;
        self.free.push(index);
    }

    fn id(&self, index: u32) -> EndpointId {
        let generation = self.members[index as usize].generation;
        EndpointId(u64::from(generation) << 32 | u64::from(MEMBER | index))
    }
}

/// The places of many clients on the bus, with one mailbox and one waker. Dropping it leaves the bus as lost connections do.
pub struct Group {
    /// Wakes the task and keeps the alarm; it opens no session of its own.
    port: Port,
    shared: Arc<GroupBox>,
    number: u32,
    /// By the index of a key.
    seats: Vec<Seat>,
    /// Whose command is under way.
    under_way: Option<EndpointId>,
}

impl Hub {
    /// Places on the bus for many endpoints with one task.
    pub fn group(&self) -> Group {
        let port = self.attach();
        let shared = Arc::new(GroupBox {
            mailbox: Arc::clone(&port.mailbox),
            events: Mutex::default(),
        });
        let number = self.0.core.lock().groups.add(Arc::clone(&shared));
        Group {
            port,
            shared,
            number,
            seats: Vec::new(),
            under_way: None,
        }
    }
}

impl Group {
    /// The bus it is attached to.
    pub fn hub(&self) -> &Hub {
        self.port.hub()
    }

    /// Takes all commands, in one turn if they are not much work. [`BusCommand::Open`] attaches an endpoint for the key, [`BusCommand::Close`] frees it;
    /// other commands of a key without an endpoint are ignored.
    pub fn submit(&mut self, commands: &mut Vec<(SessionKey, BusCommand)>) {
        while !self.submit_some(commands) {}
    }

    /// [`Port::submit_some`] for all endpoints of the group. What one publishes and settles directly behind that is taken in the same turn.
    pub fn submit_some(&mut self, commands: &mut Vec<(SessionKey, BusCommand)>) -> bool {
        if commands.is_empty() && self.under_way.is_none() {
            return true;
        }
        let hub = self.port.hub.clone();
        let mut left = Vec::new();
        // Who has just published.
        let mut published = None;
        let done = hub.turn_of_core(|core, now| {
            let enough = core.bus.work() + Bus::steps_of_a_turn();
            self.go_on(core, now, enough);
            for (key, command) in commands.drain(..) {
                // A delivery that is settled behind a publish has that as its answer: a commit has both, or neither.
                let is_tied = matches!(command, BusCommand::Settle(..)) && published == Some(key);
                if self.under_way.is_some() || core.bus.work() >= enough && !is_tied {
                    published = None;
                    left.push((key, command));
                } else {
                    published = matches!(command, BusCommand::Publish { .. }).then_some(key);
                    self.begin(key, command, core, now);
                }
            }
            self.go_on(core, now, enough);
            core.gives_way = self.under_way.is_some() || !left.is_empty();
            !core.gives_way
        });
        commands.append(&mut left);
        done
    }

    /// Goes on with what is under way, for as long as the turn may.
    fn go_on(&mut self, core: &mut Core, now: Instant, enough: usize) {
        while let Some(id) = self.under_way
            && core.bus.work() < enough
        {
            if !core.bus.go_on(id, now, &mut core.out) {
                self.under_way = None;
            }
        }
    }

    fn begin(&mut self, key: SessionKey, command: BusCommand, core: &mut Core, now: Instant) {
        let opens = matches!(command, BusCommand::Open(_));
        let closes = matches!(command, BusCommand::Close { .. });
        if opens {
            self.attach(key, core, now);
        }
        let Some(member) = self.member(key) else { return };
        let id = core.groups.id(member);
        if core.bus.begin(id, command, now, &mut core.out) {
            self.under_way = Some(id);
        }
        if closes {
            core.groups.detach(member);
            self.seats[key.index as usize].member = NONE;
        }
    }

    /// A place for the key. Whoever has its index is lost: the server has forgotten it.
    fn attach(&mut self, key: SessionKey, core: &mut Core, now: Instant) {
        let index = key.index as usize;
        if index >= self.seats.len() {
            let nobody = Seat {
                member: NONE,
                generation: 0,
            };
            self.seats.resize(index + 1, nobody);
        }
        if self.seats[index].member != NONE {
            self.lose(index, core, now);
        }
        core.generation += 1;
        let member = core.groups.attach(self.number, key, core.generation as u32);
        self.seats[index] = Seat {
            member,
            generation: key.generation,
        };
    }

    fn lose(&mut self, index: usize, core: &mut Core, now: Instant) {
        let member = std::mem::replace(&mut self.seats[index].member, NONE);
        let close = BusCommand::Close {
            reason: CloseReason::Lost,
            expiry: None,
        };
        core.bus.handle(core.groups.id(member), close, now, &mut core.out);
        core.groups.detach(member);
    }

    fn member(&self, key: SessionKey) -> Option<u32> {
        let seat = self.seats.get(key.index as usize)?;
        (seat.member != NONE && seat.generation == key.generation).then_some(seat.member)
    }

    /// Ready when there are events or the alarm rang. Otherwise `cx` is woken when it is so, or when [`Hub::says_goodbye`].
    pub fn poll_call(&self, cx: &Context<'_>) -> Poll<Call> {
        let mut waiting = self.port.mailbox.inner.lock();
        if !self.shared.events.lock().is_empty() {
            return Poll::Ready(Call::Events);
        }
        waiting.poll_alarm(cx)
    }

    /// Its connection holds so many bytes in buffers from now on, which count in the ledger of memory.
    pub fn hold_buffers(&self, bytes: usize) {
        self.port.hold_buffers(bytes);
    }

    /// Lets [`Group::poll_call`] be ready from then on, once. The alarm that was set before does not ring any more.
    pub fn wake_at(&self, at: Instant) {
        self.port.wake_at(at);
    }

    /// Moves all events that are there into `into`, but for those of endpoints that have left since.
    pub fn take_events(&self, into: &mut VecDeque<(SessionKey, BusEvent)>) {
        let mut events = self.shared.events.lock();
        if into.is_empty() {
            std::mem::swap(&mut *events, into);
        } else {
            into.append(&mut events);
        }
        if events.capacity() > LARGEST_SPARE {
            *events = VecDeque::new();
        }
        drop(events);
        into.retain(|(key, _)| self.member(*key).is_some());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let hub = self.port.hub.clone();
        let mut left = self.seats.len();
        while left > 0 {
            hub.turn_of_core(|core, now| {
                let mut lost = 0;
                while left > 0 && lost < LOST_PER_TURN {
                    left -= 1;
                    if self.seats[left].member != NONE {
                        self.lose(left, core, now);
                        lost += 1;
                    }
                }
            });
        }
        hub.0.core.lock().groups.remove(self.number);
    }
}
