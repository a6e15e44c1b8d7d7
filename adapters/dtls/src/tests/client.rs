//! A client for tests, as plain as the server: one handshake, retransmission, one Connection ID.

use crate::crypto::Random;
use crate::crypto::ecdh::Ephemeral;
use crate::crypto::keys::{Keys, derive};
use crate::crypto::prf::{Master, extended_master, hash, plain_master, psk_premaster, verify_data};
use crate::flight::{Flight, Sizes};
use crate::outputs::Outputs;
use crate::reassembly::{Message, Reassembly, Taken};
use crate::window::Window;
use crate::writer::Writer;
use headgate_dtls_codec::extension::{self, Extensions};
use headgate_dtls_codec::message::{
    CertificateRequest, ClientKeyExchange, HelloVerifyRequest, ServerKeyExchange, Signed, certificates,
    raw_public_key, write_certificates, write_ecdh_params, write_raw_public_key,
};
use headgate_dtls_codec::{
    Alert, Bulk, CipherSuite, ClientHello, ContentType, DTLS_1_2, HandshakeType, KeyExchange, ServerHello,
    next_fragment, next_record, write_message,
};
use headgate_model::Instant;
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use std::time::Duration;
use zeroize::Zeroizing;

/// What a client can and has.
#[derive(Clone)]
pub(super) struct Config {
    pub(super) suites: Vec<CipherSuite>,
    pub(super) identity: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) certificate: Option<SigningKey>,
    /// Types of certificates that it has and takes, its favourite first; nothing is said of none.
    pub(super) types: &'static [u8],
    pub(super) cid: Option<Vec<u8>>,
    pub(super) extended_master: bool,
    pub(super) encrypt_then_mac: bool,
    pub(super) max_fragment_length: Option<u8>,
    pub(super) datagram: usize,
    /// The session to resume, and its secret.
    pub(super) resume: Option<(Vec<u8>, Master)>,
    pub(super) seed: u64,
}

impl Config {
    pub(super) fn new(suite: CipherSuite) -> Self {
        Self {
            suites: vec![suite],
            identity: b"pump-7".to_vec(),
            key: b"secret key".to_vec(),
            certificate: None,
            types: &[],
            cid: None,
            extended_master: true,
            encrypt_then_mac: true,
            max_fragment_length: None,
            datagram: 1200,
            resume: None,
            seed: 1,
        }
    }
}

pub(super) struct Client {
    pub(super) config: Config,
    pub(super) connected: bool,
    pub(super) alerts: Vec<Alert>,
    pub(super) data: Vec<Vec<u8>>,
    pub(super) agreed: Option<CipherSuite>,
    /// The session's name, with what it takes to resume it.
    pub(super) session: Vec<u8>,
    pub(super) was_resumed: bool,
    /// The server has other keys.
    pub(super) is_confused: bool,
    pub(super) writer: Writer,
    rng: fastrand::Rng,
    random: [u8; 32],
    server_random: [u8; 32],
    cookie: Vec<u8>,
    messages: Reassembly,
    transcript: Vec<u8>,
    flight: Flight,
    next_seq: u16,
    retry_at: Option<Instant>,
    retry_after: Duration,
    extended: bool,
    server_cid: Option<Vec<u8>>,
    server_point: Vec<u8>,
    server_key: Option<VerifyingKey>,
    asked: bool,
    raw: (bool, bool),
    pub(super) master: Option<Master>,
    read: Option<Keys>,
    window: Window,
}

impl Client {
    pub(super) fn new(config: Config) -> Self {
        let mut rng = fastrand::Rng::with_seed(config.seed);
        let mut random = [0; 32];
        rng.fill(&mut random);
        Self {
            config,
            connected: false,
            alerts: Vec::new(),
            data: Vec::new(),
            agreed: None,
            session: Vec::new(),
            was_resumed: false,
            is_confused: false,
            writer: Writer::new(0, Box::default()),
            rng,
            random,
            server_random: [0; 32],
            cookie: Vec::new(),
            messages: Reassembly::new(0, 100_000),
            transcript: Vec::new(),
            flight: Flight::default(),
            next_seq: 0,
            retry_at: None,
            retry_after: Duration::from_secs(1),
            extended: false,
            server_cid: None,
            server_point: Vec::new(),
            server_key: None,
            asked: false,
            raw: (false, false),
            master: None,
            read: None,
            window: Window::default(),
        }
    }

    pub(super) fn start(&mut self, now: Instant, out: &mut Outputs<()>) {
        let mut extensions = Vec::new();
        self.write_extensions(&mut extensions);
        let suites = self
            .config
            .suites
            .iter()
            .flat_map(|suite| (*suite as u16).to_be_bytes());
        let suites: Vec<u8> = suites.chain([0x00, 0xFF]).collect();
        let known = self.config.resume.as_ref();
        let hello = ClientHello {
            version: DTLS_1_2,
            random: self.random,
            session_id: known.map_or(&[], |(id, _)| id),
            cookie: &self.cookie,
            suites: &suites,
            compression: &[0],
            extensions: Extensions::decode(&extensions).unwrap(),
        };
        let mut body = Vec::new();
        hello.encode(&mut body);
        self.flight = Flight::default();
        self.transcript.clear();
        self.say(HandshakeType::ClientHello, body);
        self.send_flight(now, out);
    }

    fn write_extensions(&self, out: &mut Vec<u8>) {
        let schemes = [0, 2, 4, 3];
        extension::write(extension::SIGNATURE_ALGORITHMS, &schemes, out);
        extension::write(extension::SUPPORTED_GROUPS, &[0, 4, 0, 29, 0, 23], out);
        extension::write(extension::EC_POINT_FORMATS, &[1, 0], out);
        if self.config.extended_master {
            extension::write(extension::EXTENDED_MASTER_SECRET, &[], out);
        }
        if self.config.encrypt_then_mac {
            extension::write(extension::ENCRYPT_THEN_MAC, &[], out);
        }
        if let Some(n) = self.config.max_fragment_length {
            extension::write(extension::MAX_FRAGMENT_LENGTH, &[n], out);
        }
        if !self.config.types.is_empty() {
            let mut body = Vec::new();
            extension::write_list8(self.config.types, &mut body);
            extension::write(extension::CLIENT_CERTIFICATE_TYPE, &body, out);
            extension::write(extension::SERVER_CERTIFICATE_TYPE, &body, out);
        }
        if let Some(cid) = &self.config.cid {
            let mut body = Vec::new();
            extension::write_list8(cid, &mut body);
            extension::write(extension::CONNECTION_ID, &body, out);
        }
    }

    fn say(&mut self, kind: HandshakeType, body: Vec<u8>) {
        write_message(kind, self.next_seq, &body, &mut self.transcript);
        self.flight.message(kind, self.next_seq, body);
        self.next_seq += 1;
    }

    fn send_flight(&mut self, now: Instant, out: &mut Outputs<()>) {
        let sizes = Sizes {
            datagram: self.config.datagram,
            record: 1 << 14,
        };
        self.flight.send((), sizes, &mut self.writer, out);
        self.retry_at = Some(now + self.retry_after);
        self.retry_after *= 2;
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outputs<()>) {
        if self.retry_at.is_some_and(|at| at <= now) && !self.connected {
            self.send_flight(now, out);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.retry_at.filter(|_| !self.connected)
    }

    pub(super) fn send(&mut self, bytes: &[u8], out: &mut Outputs<()>) {
        let writer = &mut self.writer;
        out.datagram((), |out| {
            writer.protected(ContentType::ApplicationData, bytes, out);
        });
    }

    pub(super) fn alert(&mut self, alert: Alert, out: &mut Outputs<()>) {
        let writer = &mut self.writer;
        out.datagram((), |out| {
            writer.protected(ContentType::Alert, &alert.encode(), out);
        });
    }

    pub(super) fn receive(&mut self, datagram: &[u8], now: Instant, out: &mut Outputs<()>) {
        let own = self.config.cid.as_ref().map_or(0, Vec::len);
        let mut rest = datagram;
        while !rest.is_empty() {
            let (record, behind) = next_record(rest, own).unwrap();
            rest = behind;
            match (record.epoch, record.content) {
                (0, ContentType::Handshake) => self.take_messages(record.fragment, now, out),
                (0, ContentType::Alert) => self.alerts.push(Alert::decode(record.fragment).unwrap()),
                (1, content) => {
                    assert_eq!(
                        content == ContentType::Tls12Cid,
                        own > 0 && self.server_cid.is_some()
                    );
                    let Some(keys) = self.read.as_ref().filter(|_| self.window.is_new(record.sequence))
                    else {
                        continue;
                    };
                    let Ok((content, plaintext)) = keys.open(&record) else {
                        self.is_confused = true;
                        continue;
                    };
                    self.window.note(record.sequence);
                    self.take_protected(content, plaintext, now, out);
                }
                _ => {}
            }
        }
    }

    fn take_protected(
        &mut self,
        content: ContentType,
        plaintext: Vec<u8>,
        now: Instant,
        out: &mut Outputs<()>,
    ) {
        match content {
            ContentType::Handshake => {
                let (finished, _) = next_fragment(&plaintext).unwrap();
                if self.connected {
                    // The server may not have got ours.
                    if self.was_resumed {
                        self.send_flight(now, out);
                    }
                    return;
                }
                let master = self.master.as_ref().unwrap();
                let wanted = verify_data(master, b"server finished", &hash(&self.transcript));
                assert_eq!(finished.body, wanted);
                if self.was_resumed {
                    write_message(
                        HandshakeType::Finished,
                        finished.message_seq,
                        finished.body,
                        &mut self.transcript,
                    );
                    let ours = verify_data(master, b"client finished", &hash(&self.transcript));
                    self.flight = Flight::finished(self.next_seq, ours);
                    self.send_flight(now, out);
                }
                self.connected = true;
            }
            ContentType::Alert => self.alerts.push(Alert::decode(&plaintext).unwrap()),
            ContentType::ApplicationData => self.data.push(plaintext),
            other => panic!("{other:?}"),
        }
    }

    fn take_messages(&mut self, mut rest: &[u8], now: Instant, out: &mut Outputs<()>) {
        while !rest.is_empty() {
            let (fragment, behind) = next_fragment(rest).unwrap();
            rest = behind;
            assert_ne!(self.messages.add(&fragment), Taken::Refused);
            while let Some(message) = self.messages.take() {
                self.take(&message, now, out);
            }
        }
    }

    fn take(&mut self, message: &Message, now: Instant, out: &mut Outputs<()>) {
        let kind = HandshakeType::from_u8(message.kind).unwrap();
        if kind == HandshakeType::HelloVerifyRequest {
            self.cookie = HelloVerifyRequest::decode(&message.body).unwrap().cookie.to_vec();
            return self.start(now, out);
        }
        write_message(kind, message.seq, &message.body, &mut self.transcript);
        match kind {
            HandshakeType::ServerHello => self.take_hello(&message.body),
            HandshakeType::Certificate => {
                let point = match self.raw.0 {
                    true => raw_public_key(&message.body).unwrap(),
                    false => certificates(&message.body).unwrap()[0],
                };
                self.server_key = VerifyingKey::from_sec1_bytes(point).ok();
            }
            HandshakeType::ServerKeyExchange => self.take_key_exchange(&message.body),
            HandshakeType::CertificateRequest => {
                let request = CertificateRequest::decode(&message.body).unwrap();
                assert!(request.kinds.contains(&64));
                self.asked = true;
            }
            HandshakeType::ServerHelloDone => self.answer(now, out),
            other => panic!("{other:?}"),
        }
    }

    fn take_hello(&mut self, body: &[u8]) {
        let hello = ServerHello::decode(body).unwrap();
        let suite = CipherSuite::from_u16(hello.suite).unwrap();
        self.server_random = hello.random;
        self.agreed = Some(suite);
        self.extended = hello.extensions.get(extension::EXTENDED_MASTER_SECRET).is_some();
        assert_eq!(self.extended, self.config.extended_master);
        let etm = hello.extensions.get(extension::ENCRYPT_THEN_MAC).is_some();
        assert_eq!(etm, suite.bulk() == Bulk::Cbc);
        assert_eq!(
            hello.extensions.get(extension::RENEGOTIATION_INFO),
            Some(&[0][..])
        );
        let length = hello.extensions.get(extension::MAX_FRAGMENT_LENGTH);
        assert_eq!(length.map(|body| body[0]), self.config.max_fragment_length);
        let kind = |number| hello.extensions.get(number) == Some(&[2][..]);
        self.raw = (
            kind(extension::SERVER_CERTIFICATE_TYPE),
            kind(extension::CLIENT_CERTIFICATE_TYPE),
        );
        let cid = hello.extensions.get(extension::CONNECTION_ID);
        self.server_cid = cid.map(|body| extension::list8(body).unwrap().to_vec());
        self.session = hello.session_id.to_vec();
        let known = self.config.resume.clone();
        if let Some((_, master)) = known.filter(|(id, _)| !id.is_empty() && *id == self.session) {
            self.was_resumed = true;
            let (ours, theirs) = derive(suite.bulk(), &master, &self.random, &self.server_random);
            (self.master, self.read) = (Some(master), Some(theirs));
            self.writer
                .set_peer(ours, self.server_cid.clone().unwrap_or_default().into());
        }
    }

    fn take_key_exchange(&mut self, body: &[u8]) {
        let exchange = self.agreed.unwrap().key_exchange();
        let said = ServerKeyExchange::decode(exchange, body).unwrap();
        let (curve, point) = said.point.unwrap();
        assert_eq!(curve, extension::SECP256R1);
        self.server_point = point.to_vec();
        if exchange == KeyExchange::EcdheEcdsa {
            let mut signed = [self.random, self.server_random].concat();
            write_ecdh_params(curve, point, &mut signed);
            let signature = Signature::from_der(said.signed.unwrap().signature).unwrap();
            self.server_key.unwrap().verify(&signed, &signature).unwrap();
        }
    }

    /// The second flight.
    fn answer(&mut self, now: Instant, out: &mut Outputs<()>) {
        let suite = self.agreed.unwrap();
        self.flight = Flight::default();
        let certificate = self.config.certificate.clone().filter(|_| self.asked);
        if self.asked {
            let point = certificate
                .as_ref()
                .map(|key| key.verifying_key().to_encoded_point(false));
            let point = point.as_ref().map(|point| point.as_bytes());
            let mut body = Vec::new();
            match self.raw.1 {
                true => write_raw_public_key(point.unwrap_or_default(), &mut body),
                false => write_certificates(point.into_iter(), &mut body),
            }
            self.say(HandshakeType::Certificate, body);
        }
        let rng = &mut self.rng;
        let mut random = |bytes: &mut [u8]| rng.fill(bytes);
        let ephemeral = Ephemeral::new(&mut random as &mut dyn Random);
        let point = ephemeral.point();
        let exchange = suite.key_exchange();
        let said = ClientKeyExchange {
            identity: exchange.has_psk().then_some(&self.config.identity),
            point: exchange.has_ecdhe().then_some(&point),
        };
        let mut body = Vec::new();
        said.encode(&mut body);
        self.say(HandshakeType::ClientKeyExchange, body);
        let shared = exchange
            .has_ecdhe()
            .then(|| ephemeral.shared(&self.server_point).unwrap());
        let premaster = match exchange {
            KeyExchange::EcdheEcdsa => Zeroizing::new(shared.unwrap().to_vec()),
            _ => psk_premaster(shared.as_ref().map(|it| &it[..]), &self.config.key),
        };
        let master = match self.extended {
            true => extended_master(&premaster, &hash(&self.transcript)),
            false => plain_master(&premaster, &self.random, &self.server_random),
        };
        let (ours, theirs) = derive(suite.bulk(), &master, &self.random, &self.server_random);
        if let Some(key) = certificate {
            let signature: Signature = key.sign(&self.transcript);
            let mut body = Vec::new();
            Signed {
                scheme: extension::ECDSA_SECP256R1_SHA256,
                signature: signature.to_der().as_bytes(),
            }
            .encode(&mut body);
            self.say(HandshakeType::CertificateVerify, body);
        }
        let verify = verify_data(&master, b"client finished", &hash(&self.transcript));
        write_message(
            HandshakeType::Finished,
            self.next_seq,
            &verify,
            &mut self.transcript,
        );
        self.flight.and_finished(self.next_seq, verify);
        self.next_seq += 1;
        self.master = Some(master);
        self.read = Some(theirs);
        self.writer
            .set_peer(ours, self.server_cid.clone().unwrap_or_default().into());
        self.retry_after = Duration::from_secs(1);
        self.send_flight(now, out);
    }
}
