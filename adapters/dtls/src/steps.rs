//! What a handshake does with the client's messages. RFC 5246 §7.4, RFC 4279 §2, RFC 5489, RFC 8422 §5
//!
//! Always true: messages come in the order of the specification or not at all; an identity that is not known looks like a key that is wrong.

use crate::credentials::{ClientVerifier, Shown};
use crate::crypto::Random;
use crate::crypto::keys::{alike, derive};
use crate::crypto::prf::{extended_master, hash, plain_master, psk_premaster, verify_data};
use crate::flight::Flight;
use crate::handshake::{Handshake, Secrets, Stage};
use crate::outputs::{Failure, Outputs, Reason};
use crate::reassembly::Message;
use crate::resume::{Resumable, SessionId};
use crate::session::Session;
use headgate_dtls_codec::message::{ClientKeyExchange, Signed, VERIFY_DATA, certificates, raw_public_key};
use headgate_dtls_codec::{ContentType, Description, HandshakeType, Record, next_fragment, write_message};
use headgate_model::Instant;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Certificates of a chain.
const MAX_CHAIN: usize = 8;
/// Protected records that may come before there are keys, and bytes of each.
const MAX_EARLY: usize = 3;
const MAX_EARLY_BYTES: usize = 300;

/// What follows from messages.
pub(crate) enum Step {
    /// More must come.
    Wait,
    /// The key of this identity is wanted.
    AskKey(Vec<u8>),
}

/// What became of a protected record.
pub(crate) enum Protected<A> {
    /// It is kept until there are keys, or came to nothing that matters.
    Nothing,
    /// It came already.
    Replayed,
    /// There is no room for it.
    NoRoom,
    /// The client has other keys, or somebody else has sent it.
    Forged,
    /// The handshake is complete, and its session may be resumed.
    Done(Box<Session<A>>, Option<Box<(SessionId, Resumable)>>),
    /// It cannot be completed.
    Failed(Failure),
}

impl<A: Copy> Handshake<A> {
    /// Takes all messages that are whole.
    pub(crate) fn advance(&mut self) -> Result<Step, Failure> {
        while !matches!(self.stage, Stage::Key | Stage::Finished) {
            let Some(message) = self.messages.take() else {
                break;
            };
            if let Step::AskKey(identity) = self.take(&message)? {
                return Ok(Step::AskKey(identity));
            }
        }
        Ok(Step::Wait)
    }

    fn take(&mut self, message: &Message) -> Result<Step, Failure> {
        let kind = HandshakeType::from_u8(message.kind);
        match (self.stage, kind) {
            (Stage::Certificate, Some(kind @ HandshakeType::Certificate)) => {
                self.remember(kind, message);
                self.take_certificate(&message.body)?;
                Ok(Step::Wait)
            }
            (Stage::KeyExchange, Some(kind @ HandshakeType::ClientKeyExchange)) => {
                self.remember(kind, message);
                self.take_key_exchange(&message.body)
            }
            (Stage::CertificateVerify, Some(kind @ HandshakeType::CertificateVerify)) => {
                self.take_certificate_verify(&message.body)?;
                self.remember(kind, message);
                Ok(Step::Wait)
            }
            _ => Err(Failure::protocol(Description::UNEXPECTED_MESSAGE)),
        }
    }

    fn remember(&mut self, kind: HandshakeType, message: &Message) {
        write_message(kind, message.seq, &message.body, &mut self.transcript);
    }

    fn take_certificate(&mut self, body: &[u8]) -> Result<(), Failure> {
        let bad = |alert| Failure::new(Reason::Certificate, alert);
        let malformed = |_| bad(Description::DECODE_ERROR);
        self.stage = Stage::KeyExchange;
        let verifier = self.verifier()?;
        let shown = if self.agreed.raw_client_key {
            let key = raw_public_key(body).map_err(malformed)?;
            (!key.is_empty()).then(|| Shown::RawKey(key.to_vec()))
        } else {
            let chain = certificates(body).map_err(malformed)?;
            if chain.len() > MAX_CHAIN {
                return Err(bad(Description::BAD_CERTIFICATE));
            }
            let chain: Vec<_> = chain.iter().map(|der| der.to_vec()).collect();
            (!chain.is_empty()).then_some(Shown::Certificates(chain))
        };
        match &shown {
            // RFC 5246 §7.4.6
            None if verifier.is_required() => return Err(bad(Description::HANDSHAKE_FAILURE)),
            None => {}
            Some(shown) => verifier.verify(shown).map_err(bad)?,
        }
        self.shown = shown;
        Ok(())
    }

    fn verifier(&self) -> Result<Arc<dyn ClientVerifier>, Failure> {
        let verifier = self.credentials.clients.clone();
        verifier.ok_or(Failure::protocol(Description::UNEXPECTED_MESSAGE))
    }

    fn take_key_exchange(&mut self, body: &[u8]) -> Result<Step, Failure> {
        let exchange = self.agreed.suite.key_exchange();
        let said = ClientKeyExchange::decode(exchange, body)
            .map_err(|_| Failure::protocol(Description::DECODE_ERROR))?;
        if let (Some(ephemeral), Some(point)) = (self.ephemeral.take(), said.point) {
            let shared = ephemeral.shared(point);
            self.shared = Some(shared.ok_or(Failure::protocol(Description::ILLEGAL_PARAMETER))?);
        }
        if let Some(identity) = said.identity {
            self.identity = Some(identity.to_vec());
            self.stage = Stage::Key;
            return Ok(Step::AskKey(identity.to_vec()));
        }
        let shared = self.shared.take();
        let premaster = shared.ok_or(Failure::protocol(Description::INTERNAL_ERROR))?;
        self.agree(&premaster[..]);
        Ok(Step::Wait)
    }

    /// The key of the identity. Without one the handshake goes on with a random key, and fails as with a wrong one. RFC 4279 §5.3
    pub(crate) fn take_key(&mut self, key: Option<&[u8]>, random: &mut dyn Random) {
        if self.stage != Stage::Key {
            return;
        }
        let mut other = Zeroizing::new([0; 32]);
        random.fill(&mut other[..]);
        let key = key.unwrap_or(&other[..]);
        let shared = self.shared.take();
        let premaster = psk_premaster(shared.as_ref().map(|shared| &shared[..]), key);
        self.agree(&premaster);
    }

    /// Makes the keys. All messages up to ClientKeyExchange are remembered, and no other.
    fn agree(&mut self, premaster: &[u8]) {
        let (client, server) = (&self.client_random, &self.server_random);
        let master = match self.agreed.extended_master {
            true => extended_master(premaster, &hash(&self.transcript)),
            false => plain_master(premaster, client, server),
        };
        let (client, server) = derive(self.agreed.suite.bulk(), &master, client, server);
        self.secrets = Some(Secrets {
            master,
            client,
            server,
        });
        self.stage = match self.shown {
            Some(_) => Stage::CertificateVerify,
            None => Stage::Finished,
        };
    }

    /// Over all messages before it. RFC 5246 §7.4.8
    fn take_certificate_verify(&mut self, body: &[u8]) -> Result<(), Failure> {
        let bad = |alert| Failure::new(Reason::Certificate, alert);
        let signed = Signed::decode(body).map_err(|_| bad(Description::DECODE_ERROR))?;
        let verifier = self.verifier()?;
        let offered = verifier.schemes().contains(&signed.scheme);
        let is_good =
            |shown| verifier.verify_signature(shown, signed.scheme, &self.transcript, signed.signature);
        if !offered || !self.shown.as_ref().is_some_and(is_good) {
            return Err(bad(Description::DECRYPT_ERROR));
        }
        self.stage = Stage::Finished;
        Ok(())
    }

    /// Takes a protected record; `raw` is all of it, with its header.
    pub(crate) fn take_protected(
        &mut self,
        record: &Record<'_>,
        raw: &[u8],
        now: Instant,
        out: &mut Outputs<A>,
    ) -> Protected<A> {
        let Some(secrets) = &self.secrets else {
            if self.early.len() == MAX_EARLY || raw.len() > MAX_EARLY_BYTES {
                return Protected::NoRoom;
            }
            self.early.push(raw.to_vec());
            return Protected::Nothing;
        };
        if !self.window.is_new(record.sequence) {
            return Protected::Replayed;
        }
        let Ok((content, plaintext)) = secrets.client.open(record) else {
            return Protected::Forged;
        };
        self.window.note(record.sequence);
        match content {
            ContentType::Handshake if self.stage == Stage::Finished => {
                self.take_finished(&plaintext, now, out)
            }
            ContentType::Alert => Protected::Failed(Failure::new(
                Reason::Alert,
                plaintext
                    .get(1)
                    .map_or(Description::DECODE_ERROR, |n| Description(*n)),
            )),
            // What came before its time is sent again.
            _ => Protected::NoRoom,
        }
    }

    /// RFC 5246 §7.4.9
    fn take_finished(&mut self, plaintext: &[u8], now: Instant, out: &mut Outputs<A>) -> Protected<A> {
        let bad = |alert| Protected::Failed(Failure::protocol(alert));
        let Ok((fragment, [])) = next_fragment(plaintext) else {
            return bad(Description::DECODE_ERROR);
        };
        let is_finished = fragment.kind == HandshakeType::Finished as u8 && fragment.is_whole();
        let Some(secrets) = self.secrets.take().filter(|_| is_finished) else {
            return bad(Description::UNEXPECTED_MESSAGE);
        };
        let wanted = verify_data(&secrets.master, b"client finished", &hash(&self.transcript));
        if fragment.body.len() != VERIFY_DATA || !alike(&wanted, fragment.body) {
            return bad(Description::DECRYPT_ERROR);
        }
        write_message(
            HandshakeType::Finished,
            fragment.message_seq,
            fragment.body,
            &mut self.transcript,
        );
        let Secrets {
            master,
            client,
            server,
        } = secrets;
        let mut last = None;
        if !self.is_resumed {
            let ours = verify_data(&master, b"server finished", &hash(&self.transcript));
            self.writer.set_keys(server);
            let flight = Flight::finished(self.next_seq, ours);
            flight.send(self.address, self.sizes, &mut self.writer, out);
            last = Some(flight);
        }
        let session = Session::new(self, client, last, now);
        // What was resumed is known already.
        let resumable = self.session_id.filter(|_| !self.is_resumed).map(|id| {
            let resumable = Resumable {
                master,
                suite: self.agreed.suite,
                extended_master: self.agreed.extended_master,
                shown: session.shown().cloned(),
            };
            Box::new((id, resumable))
        });
        Protected::Done(Box::new(session), resumable)
    }
}
