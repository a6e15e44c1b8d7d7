//! How handshakes begin: a hello without a good cookie is answered and forgotten, one with it becomes a handshake. RFC 6347 §4.2.1

use crate::handshake::{Begin, Handshake};
use crate::outputs::{Counter, Event, Failure, Outputs, Reason};
use crate::server::DtlsServer;
use headgate_dtls_codec::message::HelloVerifyRequest;
use headgate_dtls_codec::{
    Alert, ClientHello, ContentType, DTLS_1_0, DTLS_1_2, Description, Fragment, HandshakeType, Record,
    RecordHeader, write_message,
};
use headgate_model::Instant;
use headgate_model::memory::Want;
use std::hash::Hash;
use std::time::Duration;

impl<A: Copy + Eq + Hash> DtlsServer<A> {
    /// Takes a hello, or a fragment of one.
    pub(crate) fn take_hello(
        &mut self,
        from: A,
        record: &Record<'_>,
        fragment: &Fragment<'_>,
        now: Instant,
        out: &mut Outputs<A>,
    ) {
        // Putting fragments together would be keeping something of whoever sends them.
        if !fragment.is_whole() || fragment.body.len() > self.settings.max_handshake_bytes {
            return out.count(Counter::NoRoom);
        }
        let Ok(hello) = ClientHello::decode(fragment.body) else {
            return out.count(Counter::Malformed);
        };
        if !self.cookies.is_good(from, &hello, &mut *self.random, now) {
            return self.send_cookie(from, record, fragment, &hello, now, out);
        }
        if let Some(number) = self.handshakes_at.get(&from).copied() {
            let known = self.handshakes.get_mut(&number);
            if let Some(known) = known.filter(|known| known.client_random == hello.random) {
                return known.send_again(now, out);
            }
            let failure = Failure::new(Reason::Superseded, Description::USER_CANCELED);
            self.fail(number, Some(failure), false, out);
        }
        let (settings, credentials) = (&self.settings, &self.credentials);
        let resumed = self.memory.find(&hello, settings, credentials, now);
        let begin = Begin {
            resumed: resumed.filter(|_| settings.resumption),
            address: from,
            hello,
            body: fragment.body,
            message_seq: fragment.message_seq,
            sequence: record.sequence,
        };
        self.begin(&begin, now, out);
    }

    /// Answers with a cookie, in fewer bytes than the hello had.
    fn send_cookie(
        &mut self,
        from: A,
        record: &Record<'_>,
        fragment: &Fragment<'_>,
        hello: &ClientHello<'_>,
        now: Instant,
        out: &mut Outputs<A>,
    ) {
        let cookie = self.cookies.make(from, hello, &mut *self.random, now);
        let (mut body, mut message) = (Vec::new(), Vec::new());
        HelloVerifyRequest {
            version: DTLS_1_0,
            cookie: &cookie,
        }
        .encode(&mut body);
        // Both numbers are the hello's: RFC 6347 §4.2.1, §4.2.2.
        write_message(
            HandshakeType::HelloVerifyRequest,
            fragment.message_seq,
            &body,
            &mut message,
        );
        let header = RecordHeader {
            content: ContentType::Handshake,
            version: DTLS_1_0,
            epoch: 0,
            sequence: record.sequence,
            cid: &[],
        };
        out.count(Counter::Cookies);
        out.datagram(from, |bytes| {
            header.write(message.len(), bytes);
            bytes.extend_from_slice(&message);
        });
    }

    fn begin(&mut self, begin: &Begin<'_, A>, now: Instant, out: &mut Outputs<A>) {
        if !self.may_begin(now) {
            return out.count(Counter::TooFast);
        }
        if !self
            .ledger
            .has_room(Want::ToGoOn, size_of::<Handshake<A>>() + begin.body.len())
        {
            return out.count(Counter::NoMemory);
        }
        if self.handshakes.len() >= self.settings.max_handshakes.max(1)
            && let Some(oldest) = self.handshakes.keys().next().copied()
        {
            let failure = Failure::new(Reason::Crowded, Description::USER_CANCELED);
            self.fail(oldest, Some(failure), false, out);
        }
        out.count(Counter::Begun);
        let begun = Handshake::begin(begin, &self.settings, &self.credentials, &mut *self.random, now);
        let mut handshake = match begun {
            Ok(handshake) => handshake,
            Err(failure) => return self.refuse(begin, failure, out),
        };
        handshake.send(now, out);
        let number = self.next_number;
        self.next_number += 1;
        self.retries.set(handshake.deadline(), number);
        if handshake.has_cid() {
            self.by_cid.insert(handshake.cid, number);
        }
        self.handshakes_at.insert(begin.address, number);
        self.handshakes.insert(number, handshake);
    }

    fn may_begin(&mut self, now: Instant) -> bool {
        if now.since(self.begun.0) >= Duration::from_secs(1) {
            self.begun = (now, 0);
        }
        self.begun.1 += 1;
        self.begun.1 <= self.settings.max_handshakes_per_second
    }

    /// Tells a client with a good cookie why there will be no handshake.
    fn refuse(&mut self, begin: &Begin<'_, A>, failure: Failure, out: &mut Outputs<A>) {
        let header = RecordHeader {
            content: ContentType::Alert,
            version: DTLS_1_2,
            epoch: 0,
            sequence: begin.sequence,
            cid: &[],
        };
        out.datagram(begin.address, |bytes| {
            header.write(2, bytes);
            bytes.extend_from_slice(&Alert::fatal(failure.alert).encode());
        });
        out.count(failure.reason.counter());
        out.events.push(Event::Failed {
            address: begin.address,
            identity: None,
            failure,
        });
    }
}
