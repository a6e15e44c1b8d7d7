//! What the store keeps of clients, and how they are there again after a restart.

use crate::bootstrap::unhex;
use crate::core::{BEFORE_THE_END, Core, Effect, Out};
use crate::counters::Lwm2mMetric;
use crate::device::{Job, State, Wanted};
use crate::note::{Note, Observed};
use base64::prelude::{BASE64_STANDARD, Engine};
use headgate_coap_codec::Token;
use headgate_lwm2m_codec::Format;
use headgate_model::bus::NOTE_BYTES;
use headgate_model::datagram::{Address, Restored};
use headgate_model::{BusCommand, Instant};

impl<A: Address> Core<A> {
    /// What the store keeps of it is as it is now.
    pub(crate) fn keep_note(&mut self, index: u32, out: &mut Out<A>) {
        let device = self.device(index);
        if !device.state.has_session() {
            return;
        }
        let (peer, port) = device.at.presence();
        let known = device.observations.iter();
        let known = known.map(|known| (known.token.to_string(), &known.wanted));
        let to_observe = device.to_observe().map(|wanted| (String::new(), wanted));
        let observed = known.chain(to_observe).map(|(token, wanted)| Observed {
            token,
            paths: wanted.paths.clone(),
            composite: wanted.kind == crate::command::Kind::Composite,
            format: wanted.format.map(Format::number),
            said: wanted.said.clone(),
        });
        let place = self.places.as_ref().and_then(|places| places.keep(device.at));
        let mut note = Note {
            listener: self.listener.clone(),
            peer: peer.to_string(),
            port,
            place: place.map(|place| BASE64_STANDARD.encode(place)),
            location: device.location.clone(),
            registration: (&device.registration).into(),
            observed: observed.collect(),
            firmware: device.firmware_mark.clone(),
        };
        let mut bytes = note.to_bytes();
        while bytes.len() > NOTE_BYTES && !note.observed.is_empty() {
            // Observations are the only part that grows. Those that began last are not there after a restart; their client hears so when it notifies.
            note.observed.truncate(note.observed.len() / 2);
            bytes = note.to_bytes();
            out.counts.add_own(Lwm2mMetric::NotesCut);
        }
        out.bus.push((device.seat, BusCommand::SetNote(bytes)));
    }

    /// Clients that registered before the start.
    pub(crate) fn restore(&mut self, found: Vec<Restored>, now: Instant) {
        for restored in found {
            let Some(note) = Note::parse(&restored.note) else {
                continue;
            };
            let is_ours = note.listener == self.listener
                && !self.by_endpoint.contains_key(&note.registration().endpoint);
            let Some(at) = self.place_of(&note).filter(|_| is_ours) else {
                continue;
            };
            let registration = note.registration();
            let endpoint = registration.endpoint.clone();
            let index = self.add(at, registration, note.location.clone(), State::Restored, now);
            self.by_endpoint.insert(endpoint, index);
            self.by_location.insert(note.location, index);
            self.by_address.entry(at).or_insert(index);
            for observed in note.observed {
                let Some(token) = token_of(&observed.token) else {
                    continue;
                };
                let wanted = Wanted {
                    paths: observed.paths,
                    kind: match observed.composite {
                        true => crate::command::Kind::Composite,
                        false => crate::command::Kind::Single,
                    },
                    format: observed
                        .format
                        .and_then(|number| Format::of_number(number.into())),
                    said: observed.said,
                };
                if token.as_bytes().is_empty() {
                    self.device_mut(index).jobs.push_back(Job::Observe(wanted));
                } else {
                    self.add_observation(index, token, wanted);
                }
            }
            let device = self.device_mut(index);
            (device.firmware_mark, device.owner) = (note.firmware, restored.username.clone());
            // Several starts may have come since it was heard of.
            let ends_in = restored.ends_in.map(|left| left.saturating_sub(BEFORE_THE_END));
            device.ends_by = ends_in.map(|left| now + left);
            // Who had a name must show it again, which it does when it is back.
            if restored.username.is_none() && A::FORGEABLE {
                self.restored.push_back(index);
            }
            self.rearm(index, now);
        }
    }

    /// Where a client was: as its socket knew it, or as it is seen.
    fn place_of(&self, note: &Note) -> Option<A> {
        match (&self.places, &note.place) {
            (Some(places), Some(place)) => places.find(&BASE64_STANDARD.decode(place).ok()?),
            _ => A::of_presence(&note.peer, note.port),
        }
    }

    /// Lets clients in that registered before the start, a few at a time: half of the room is for those who register.
    pub(crate) fn go_on_restoring(&mut self, out: &mut Out<A>) {
        while self.logging_in < self.settings.max_logins.div_ceil(2) {
            let Some(index) = self.restored.pop_front() else {
                return;
            };
            let device = self.devices[index as usize].as_mut();
            if let Some(device) = device.filter(|device| device.state == State::Restored) {
                device.state = State::LoggingIn;
                let at = device.at;
                self.effects.push_back(Effect::Expect(at));
                self.ask_who(index, at, out);
            }
        }
    }
}

fn token_of(hexadecimal: &str) -> Option<Token> {
    Token::new(&unhex(hexadecimal)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Lwm2mSettings;
    use ::core::net::SocketAddr;
    use headgate_coap::Unguessable;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    /// RFC 7252 §5.3.1 \[RFC7252-5.3.1-2\] \[RFC7252-5.3.1-3\] \[RFC7252-5.3.1-4\] \[RFC9175-4.2-1\]
    #[test]
    fn tokens_are_long_and_none_is_there_twice() {
        let new = || Core::<SocketAddr>::new(Lwm2mSettings::default(), Arc::default(), Unguessable::new());
        let (mut one, mut other) = (new(), new());
        let tokens = (0..1_000).flat_map(|_| [one.new_token(), other.new_token()]);
        let tokens: BTreeSet<Token> = tokens.collect();
        assert_eq!(tokens.len(), 2_000);
        assert!(tokens.iter().all(|token| token.as_bytes().len() == Token::MOST));
    }
}
