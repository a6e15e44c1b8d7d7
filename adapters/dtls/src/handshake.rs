//! A handshake from the hello with the cookie to the end: what it keeps, how it begins, and what it sends again when. RFC 6347 §4.2
//!
//! What it does with messages is in `steps`.

use crate::CID_LEN;
use crate::credentials::{Credentials, Shown};
use crate::crypto::Random;
use crate::crypto::ecdh::Ephemeral;
use crate::crypto::keys::{Keys, derive};
use crate::crypto::prf::{Master, hash, verify_data};
use crate::flight::{Flight, Sizes};
use crate::ledger::PLACES;
use crate::negotiate::Agreed;
use crate::outputs::{Counter, Failure, Outputs, Reason};
use crate::reassembly::Reassembly;
use crate::resume::{Resumable, SessionId};
use crate::settings::ServerSettings;
use crate::window::Window;
use crate::writer::Writer;
use headgate_dtls_codec::extension::{ECDSA_SECP256R1_SHA256, Extensions, SECP256R1};
use headgate_dtls_codec::message::{
    CertificateRequest, ServerKeyExchange, Signed, write_certificates, write_ecdh_params,
    write_raw_public_key,
};
use headgate_dtls_codec::{
    Alert, ClientHello, ContentType, DTLS_1_2, Description, HandshakeType, KeyExchange, RANDOM_LEN,
    ServerHello, write_message,
};
use headgate_model::Instant;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long an answer may take before the flight is sent again, the first time; then twice as long each time. RFC 6347 §4.2.4.1
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// A flight that the client asks for is not sent again so soon.
const NOT_SO_SOON: Duration = Duration::from_millis(200);
/// After so many the path may be one that our datagrams are too long for. RFC 6347 §4.1.1.1
const LONG_SENDS: u8 = 2;
/// How long they are then.
const SHORT_DATAGRAM: usize = 512;
/// Flights in all.
const MAX_SENDS: u8 = 12;
/// The kind of certificate that a client may show: one with an ECDSA key. RFC 8422 §5.5
const ECDSA_SIGN: u8 = 64;

/// What is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Certificate.
    Certificate,
    /// ClientKeyExchange.
    KeyExchange,
    /// The answer to [`Event::Psk`](crate::Event::Psk).
    Key,
    /// CertificateVerify.
    CertificateVerify,
    /// Finished.
    Finished,
}

pub(crate) struct Handshake<A> {
    pub(crate) address: A,
    pub(crate) client_random: [u8; RANDOM_LEN],
    pub(crate) server_random: [u8; RANDOM_LEN],
    /// By which its session may be resumed.
    pub(crate) session_id: Option<SessionId>,
    /// It resumes an earlier session: the server's Finished is in the first flight.
    pub(crate) is_resumed: bool,
    /// The Connection ID that we give.
    pub(crate) cid: [u8; CID_LEN],
    pub(crate) agreed: Agreed,
    pub(crate) credentials: Credentials,
    /// All messages as they count for the hash.
    pub(crate) transcript: Vec<u8>,
    pub(crate) messages: Reassembly,
    pub(crate) writer: Writer,
    pub(crate) sizes: Sizes,
    pub(crate) stage: Stage,
    pub(crate) ephemeral: Option<Ephemeral>,
    /// What Diffie-Hellman gave, until the shared key is there.
    pub(crate) shared: Option<Zeroizing<[u8; 32]>>,
    pub(crate) identity: Option<Vec<u8>>,
    pub(crate) shown: Option<Shown>,
    pub(crate) secrets: Option<Secrets>,
    pub(crate) window: Window,
    /// Protected records that came before there were keys, with their headers.
    pub(crate) early: Vec<Vec<u8>>,
    /// Bytes that the ledger knows of.
    pub(crate) counted: usize,
    /// The number of our next message.
    pub(crate) next_seq: u16,
    flight: Flight,
    gives_up_at: Instant,
    retry_at: Instant,
    retry_after: Duration,
    sent_at: Instant,
    sends: u8,
    /// It will come to nothing, and that was told.
    told: Option<Failure>,
    /// The client has said why it gives up, or somebody in its name.
    alerted: Option<Description>,
}

/// What the finished key exchange gives.
pub(crate) struct Secrets {
    pub(crate) master: Master,
    pub(crate) client: Keys,
    pub(crate) server: Keys,
}

/// The hello that a handshake begins with.
pub(crate) struct Begin<'a, A> {
    pub(crate) address: A,
    pub(crate) hello: ClientHello<'a>,
    pub(crate) body: &'a [u8],
    /// The numbers of its message and record, from which ours go on. RFC 6347 §4.2.1, §4.2.2
    pub(crate) message_seq: u16,
    pub(crate) sequence: u64,
    /// The session that it resumes.
    pub(crate) resumed: Option<(SessionId, Resumable)>,
}

impl<A: Copy> Handshake<A> {
    /// Agrees with a client whose cookie is good, and prepares the first flight.
    pub(crate) fn begin(
        begin: &Begin<'_, A>,
        settings: &ServerSettings,
        credentials: &Credentials,
        random: &mut dyn Random,
        now: Instant,
    ) -> Result<Self, Failure> {
        let resumed = begin.resumed.as_ref();
        let suite = resumed.map(|(_, session)| session.suite);
        let agreed = Agreed::find(&begin.hello, settings, credentials, suite)?;
        let mut server_random = [0; RANDOM_LEN];
        random.fill(&mut server_random);
        let mut cid = [0; CID_LEN];
        random.fill(&mut cid);
        let mut transcript = Vec::new();
        write_message(
            HandshakeType::ClientHello,
            begin.message_seq,
            begin.body,
            &mut transcript,
        );
        let exchange = agreed.suite.key_exchange();
        let is_full = resumed.is_none();
        let signs = exchange == KeyExchange::EcdheEcdsa;
        let asks = is_full && agreed.asks;
        let mut new_id = [0; 32];
        random.fill(&mut new_id);
        let may_be_resumed = signs && settings.resumption;
        let mut handshake = Self {
            address: begin.address,
            client_random: begin.hello.random,
            server_random,
            cid,
            transcript,
            messages: Reassembly::new(
                begin.message_seq.wrapping_add(1),
                settings.max_handshake_bytes.saturating_sub(begin.body.len()),
            ),
            writer: Writer::new(begin.sequence, agreed.peer_cid.clone().unwrap_or_default()),
            sizes: Sizes {
                datagram: settings.max_datagram_bytes,
                record: agreed.max_record.unwrap_or(1 << 14),
            },
            stage: match asks {
                true => Stage::Certificate,
                false => Stage::KeyExchange,
            },
            session_id: match resumed {
                Some((id, _)) => Some(*id),
                None => may_be_resumed.then_some(new_id),
            },
            is_resumed: !is_full,
            ephemeral: (exchange.has_ecdhe() && is_full).then(|| Ephemeral::new(random)),
            shared: None,
            identity: None,
            shown: None,
            secrets: None,
            window: Window::default(),
            early: Vec::new(),
            counted: 0,
            next_seq: begin.message_seq,
            flight: Flight::default(),
            gives_up_at: now + settings.handshake_timeout,
            retry_at: now + FIRST_RETRY,
            retry_after: FIRST_RETRY,
            sent_at: now,
            sends: 0,
            told: None,
            alerted: None,
            credentials: credentials.clone(),
            agreed,
        };
        match resumed {
            Some((_, session)) => handshake.prepare_resumed(session),
            None => handshake.prepare(asks)?,
        }
        Ok(handshake)
    }

    /// The first flight: from ServerHello to ServerHelloDone. RFC 5246 §7.3
    fn prepare(&mut self, asks: bool) -> Result<(), Failure> {
        self.say_hello();
        if self.agreed.scheme.is_some() {
            let body = self.certificate();
            self.say(HandshakeType::Certificate, body);
        }
        if let Some(body) = self.key_exchange()? {
            self.say(HandshakeType::ServerKeyExchange, body);
        }
        if asks {
            let body = self.certificate_request();
            self.say(HandshakeType::CertificateRequest, body);
        }
        self.say(HandshakeType::ServerHelloDone, Vec::new());
        Ok(())
    }

    /// The first flight of a session that is resumed: ServerHello and Finished. RFC 5246 §7.3
    fn prepare_resumed(&mut self, session: &Resumable) {
        self.say_hello();
        let (random, master) = ((&self.client_random, &self.server_random), &session.master);
        let (client, server) = derive(session.suite.bulk(), master, random.0, random.1);
        let ours = verify_data(master, b"server finished", &hash(&self.transcript));
        write_message(
            HandshakeType::Finished,
            self.next_seq,
            &ours,
            &mut self.transcript,
        );
        self.flight.and_finished(self.next_seq, ours);
        self.writer.set_keys(server.clone());
        self.shown.clone_from(&session.shown);
        self.secrets = Some(Secrets {
            master: master.clone(),
            client,
            server,
        });
        self.stage = Stage::Finished;
    }

    fn say_hello(&mut self) {
        let session_id = self.session_id;
        let extensions = self.agreed.extensions(&self.cid);
        let hello = ServerHello {
            version: DTLS_1_2,
            random: self.server_random,
            session_id: session_id.as_ref().map_or(&[], |id| id),
            suite: self.agreed.suite as u16,
            extensions: Extensions::decode(&extensions).expect("written by us"),
        };
        let mut body = Vec::new();
        hello.encode(&mut body);
        self.say(HandshakeType::ServerHello, body);
    }

    fn say(&mut self, kind: HandshakeType, body: Vec<u8>) {
        write_message(kind, self.next_seq, &body, &mut self.transcript);
        self.flight.message(kind, self.next_seq, body);
        self.next_seq = self.next_seq.wrapping_add(1);
    }

    fn certificate(&self) -> Vec<u8> {
        let mut body = Vec::new();
        if let Some(key) = &self.credentials.key {
            match self.agreed.raw_server_key {
                true => write_raw_public_key(key.public_key(), &mut body),
                false => write_certificates(key.chain().iter().map(Vec::as_slice), &mut body),
            }
        }
        body
    }

    /// With a shared key alone there is nothing to say, for we give no hint. RFC 4279 §2
    fn key_exchange(&self) -> Result<Option<Vec<u8>>, Failure> {
        let Some(ephemeral) = &self.ephemeral else {
            return Ok(None);
        };
        let point = ephemeral.point();
        let signature = match (self.agreed.scheme, &self.credentials.key) {
            (Some(scheme), Some(key)) => {
                // RFC 8422 §5.4: both randoms and the point.
                let mut signed = [self.client_random, self.server_random].concat();
                write_ecdh_params(SECP256R1, &point, &mut signed);
                let signature = key.sign(scheme, &signed);
                Some((
                    scheme,
                    signature.ok_or(Failure::protocol(Description::INTERNAL_ERROR))?,
                ))
            }
            _ => None,
        };
        let exchange = ServerKeyExchange {
            hint: self.agreed.suite.key_exchange().has_psk().then_some(&[]),
            point: Some((SECP256R1, &point)),
            signed: signature.as_ref().map(|(scheme, signature)| Signed {
                scheme: *scheme,
                signature,
            }),
        };
        let mut body = Vec::new();
        exchange.encode(&mut body);
        Ok(Some(body))
    }

    fn certificate_request(&self) -> Vec<u8> {
        let verifier = self.credentials.clients.as_ref();
        let schemes = verifier.map_or(&[ECDSA_SECP256R1_SHA256][..], |verifier| verifier.schemes());
        let schemes: Vec<u8> = schemes.iter().flat_map(|scheme| scheme.to_be_bytes()).collect();
        let request = CertificateRequest {
            kinds: &[ECDSA_SIGN],
            schemes: &schemes,
            // No names of CAs: a small client has one certificate.
            authorities: &[],
        };
        let mut body = Vec::new();
        request.encode(&mut body);
        body
    }

    /// Bytes of memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        let early: usize = self.early.iter().map(Vec::capacity).sum();
        // Whoever looks for the key has a copy.
        let identity = 2 * self.identity.as_ref().map_or(0, Vec::capacity);
        let shown = self.shown.as_ref().map_or(0, Shown::bytes);
        let said = self.transcript.capacity() + self.messages.bytes() + self.flight.bytes();
        size_of::<Self>() + PLACES + said + early + identity + shown
    }

    /// Whether both have Connection IDs, so that protected records of the client have ours.
    pub(crate) fn has_cid(&self) -> bool {
        self.agreed.peer_cid.is_some()
    }

    /// Sends the flight.
    pub(crate) fn send(&mut self, now: Instant, out: &mut Outputs<A>) {
        if self.sends == MAX_SENDS {
            return;
        }
        if self.sends > 0 {
            out.count(Counter::Resent);
        }
        if self.sends == LONG_SENDS {
            self.sizes.datagram = self.sizes.datagram.min(SHORT_DATAGRAM);
        }
        self.sends += 1;
        self.sent_at = now;
        self.flight.send(self.address, self.sizes, &mut self.writer, out);
    }

    /// The client says again what it said: it has not heard us.
    pub(crate) fn send_again(&mut self, now: Instant, out: &mut Outputs<A>) {
        if now.since(self.sent_at) >= NOT_SO_SOON {
            self.send(now, out);
        }
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Instant {
        self.retry_at.min(self.gives_up_at)
    }

    /// Does what is due. Whether it is over. RFC 6347 §4.2.4.1
    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Outputs<A>) -> bool {
        if now >= self.gives_up_at {
            return true;
        }
        if now >= self.retry_at {
            self.retry_after = (self.retry_after * 2).min(LAST_RETRY);
            self.retry_at = now + self.retry_after;
            // While we wait for a key it is we who are late.
            if self.stage != Stage::Key && self.told.is_none() {
                self.send(now, out);
            }
        }
        false
    }

    /// Somebody says in the client's name that it gives up. That is no proof, but a reason if nothing more comes.
    pub(crate) fn note_alert(&mut self, alert: Alert) {
        if alert.fatal || alert.description == Description::CLOSE_NOTIFY {
            self.alerted.get_or_insert(alert.description);
        }
    }

    /// A protected record is not what the agreed keys would make: most likely the client has another key. It is told so once; should the record
    /// have been forged, the handshake goes on. Whether this is the first time.
    pub(crate) fn note_wrong_key(&mut self, out: &mut Outputs<A>) -> Option<Failure> {
        if self.told.is_some() || self.alerted.is_some() {
            return None;
        }
        let failure = Failure::new(Reason::WrongKey, Description::BAD_RECORD_MAC);
        self.told = Some(failure);
        self.alert(failure.alert, out);
        Some(failure)
    }

    /// Says that it came to nothing.
    pub(crate) fn alert(&mut self, description: Description, out: &mut Outputs<A>) {
        let (writer, alert) = (&mut self.writer, Alert::fatal(description));
        out.datagram(self.address, |bytes| {
            writer.plain(ContentType::Alert, &alert.encode(), bytes);
        });
    }

    /// Why it came to nothing when its time is over; `None` if that was told.
    pub(crate) fn gave_up(&self) -> Option<Failure> {
        match (self.told, self.alerted) {
            (Some(_), _) => None,
            (None, Some(alert)) => Some(Failure::new(Reason::Alert, alert)),
            (None, None) => Some(Failure::new(Reason::Timeout, Description::USER_CANCELED)),
        }
    }

    /// Whether it was told that it came to nothing.
    pub(crate) fn was_told(&self) -> bool {
        self.told.is_some()
    }
}
