//! What both will speak, from what the client offers. RFC 5246 §7.4.1

use crate::CID_LEN;
use crate::credentials::{ClientVerifier, Credentials};
use crate::outputs::{Failure, Reason};
use crate::settings::ServerSettings;
use headgate_dtls_codec::extension::{self, Extensions};
use headgate_dtls_codec::{
    Bulk, CipherSuite, ClientHello, DTLS_1_2, DecodeError, Description, KeyExchange, RENEGOTIATION_SCSV,
};
use std::sync::Arc;

/// What was agreed on.
#[derive(Clone, Debug)]
pub(crate) struct Agreed {
    pub(crate) suite: CipherSuite,
    /// RFC 7627
    pub(crate) extended_master: bool,
    /// With which scheme the server signs.
    pub(crate) scheme: Option<u16>,
    /// The server shows its raw key. RFC 7250
    pub(crate) raw_server_key: bool,
    /// The client is asked what it can show of itself.
    pub(crate) asks: bool,
    /// That is its raw key.
    pub(crate) raw_client_key: bool,
    /// The client's Connection ID, if it knows of them; empty if it wants none itself.
    pub(crate) peer_cid: Option<Box<[u8]>>,
    /// The longest record that it takes. RFC 6066 §4
    pub(crate) max_record: Option<usize>,
    pub(crate) server_name: Option<Box<str>>,
    echoes: Echoes,
}

/// What the client has said and is told that it was understood.
#[derive(Clone, Copy, Debug)]
struct Echoes {
    renegotiation: bool,
    point_formats: bool,
    max_fragment_length: Option<u8>,
    server_certificate_type: bool,
    client_certificate_type: bool,
}

impl Agreed {
    /// Finds what both can, or says why there is nothing. `resumed`: the suite of a session that is resumed.
    pub(crate) fn find(
        hello: &ClientHello<'_>,
        settings: &ServerSettings,
        credentials: &Credentials,
        resumed: Option<CipherSuite>,
    ) -> Result<Self, Failure> {
        // Versions of DTLS count down. RFC 6347 §4.1
        if hello.version > DTLS_1_2 {
            return Err(Failure::new(
                Reason::NothingInCommon,
                Description::PROTOCOL_VERSION,
            ));
        }
        if !hello.compression.contains(&0) {
            return Err(Failure::protocol(Description::ILLEGAL_PARAMETER));
        }
        let offer = Offer::read(hello).map_err(|_| Failure::protocol(Description::DECODE_ERROR))?;
        let is_wanted = |suite: CipherSuite| resumed.is_none_or(|wanted| wanted == suite);
        let fits = |suite: &&CipherSuite| is_wanted(**suite) && offer.fits(**suite, hello, credentials);
        let suite = settings.suites.iter().find(fits).copied().ok_or(Failure::new(
            Reason::NothingInCommon,
            Description::HANDSHAKE_FAILURE,
        ))?;
        let signs = suite.key_exchange() == KeyExchange::EcdheEcdsa && resumed.is_none();
        let server_type = offer.server_type(credentials).filter(|_| signs);
        let client_type = offer.client_type(credentials).filter(|_| signs);
        let peer_cid = offer.cid.filter(|_| settings.connection_id).map(Into::into);
        Ok(Self {
            suite,
            extended_master: offer.extended_master,
            scheme: offer.scheme(credentials).filter(|_| signs),
            raw_server_key: server_type == Some(extension::RAW_PUBLIC_KEY),
            asks: client_type.is_some(),
            raw_client_key: client_type == Some(extension::RAW_PUBLIC_KEY),
            peer_cid,
            max_record: offer.max_fragment_length.map(|n| 1 << (8 + n)),
            server_name: offer.server_name.map(Into::into),
            echoes: Echoes {
                renegotiation: offer.renegotiation,
                point_formats: offer.point_formats && suite.key_exchange().has_ecdhe() && resumed.is_none(),
                max_fragment_length: offer.max_fragment_length,
                server_certificate_type: server_type.is_some() && offer.server_types.is_some(),
                client_certificate_type: client_type.is_some() && offer.client_types.is_some(),
            },
        })
    }

    /// The extensions of the ServerHello.
    pub(crate) fn extensions(&self, cid: &[u8; CID_LEN]) -> Vec<u8> {
        let mut out = Vec::new();
        if self.echoes.renegotiation {
            extension::write(extension::RENEGOTIATION_INFO, &[0], &mut out);
        }
        if self.extended_master {
            extension::write(extension::EXTENDED_MASTER_SECRET, &[], &mut out);
        }
        if self.suite.bulk() == Bulk::Cbc {
            extension::write(extension::ENCRYPT_THEN_MAC, &[], &mut out);
        }
        if self.echoes.point_formats {
            extension::write(
                extension::EC_POINT_FORMATS,
                &[1, extension::UNCOMPRESSED],
                &mut out,
            );
        }
        if let Some(n) = self.echoes.max_fragment_length {
            extension::write(extension::MAX_FRAGMENT_LENGTH, &[n], &mut out);
        }
        if self.echoes.client_certificate_type {
            extension::write(
                extension::CLIENT_CERTIFICATE_TYPE,
                &[kind(self.raw_client_key)],
                &mut out,
            );
        }
        if self.echoes.server_certificate_type {
            extension::write(
                extension::SERVER_CERTIFICATE_TYPE,
                &[kind(self.raw_server_key)],
                &mut out,
            );
        }
        if self.peer_cid.is_some() {
            let mut body = Vec::with_capacity(1 + CID_LEN);
            extension::write_list8(cid, &mut body);
            extension::write(extension::CONNECTION_ID, &body, &mut out);
        }
        out
    }
}

fn kind(raw: bool) -> u8 {
    match raw {
        true => extension::RAW_PUBLIC_KEY,
        false => extension::X509,
    }
}

/// What a client's extensions say.
struct Offer<'a> {
    schemes: Vec<u16>,
    /// Whether it knows P-256; who says nothing takes any. RFC 8422 §4
    has_p256: bool,
    point_formats: bool,
    extended_master: bool,
    encrypt_then_mac: bool,
    renegotiation: bool,
    cid: Option<&'a [u8]>,
    max_fragment_length: Option<u8>,
    server_name: Option<&'a str>,
    server_types: Option<&'a [u8]>,
    client_types: Option<&'a [u8]>,
}

impl<'a> Offer<'a> {
    fn read(hello: &ClientHello<'a>) -> Result<Self, DecodeError> {
        let all: Extensions<'a> = hello.extensions;
        let list8 = |number| all.get(number).map(extension::list8).transpose();
        let list16 = |number| all.get(number).map(extension::list16).transpose();
        let schemes = list16(extension::SIGNATURE_ALGORITHMS)?.unwrap_or_default();
        let groups = list16(extension::SUPPORTED_GROUPS)?;
        let max_fragment_length = match all.get(extension::MAX_FRAGMENT_LENGTH) {
            Some([n @ 1..=4]) => Some(*n),
            Some(_) => return Err(DecodeError::Value("max_fragment_length")),
            None => None,
        };
        let renegotiation = match all.get(extension::RENEGOTIATION_INFO) {
            // RFC 5746 §3.6: in a first handshake there is no other before it.
            Some([0]) => true,
            Some(_) => return Err(DecodeError::Value("renegotiation_info")),
            None => hello.suites().any(|suite| suite == RENEGOTIATION_SCSV),
        };
        Ok(Self {
            schemes: extension::numbers(schemes).collect(),
            has_p256: groups
                .is_none_or(|groups| extension::numbers(groups).any(|n| n == extension::SECP256R1)),
            point_formats: list8(extension::EC_POINT_FORMATS)?.is_some(),
            extended_master: all.get(extension::EXTENDED_MASTER_SECRET).is_some(),
            encrypt_then_mac: all.get(extension::ENCRYPT_THEN_MAC).is_some(),
            renegotiation,
            cid: list8(extension::CONNECTION_ID)?,
            max_fragment_length,
            server_name: all.get(extension::SERVER_NAME).and_then(extension::host_name),
            server_types: list8(extension::SERVER_CERTIFICATE_TYPE)?,
            client_types: list8(extension::CLIENT_CERTIFICATE_TYPE)?,
        })
    }

    /// Whether both can do all that a suite needs.
    fn fits(&self, suite: CipherSuite, hello: &ClientHello<'_>, credentials: &Credentials) -> bool {
        let exchange = suite.key_exchange();
        let offered = || hello.suites().any(|number| number == suite as u16);
        let has_key = match exchange {
            KeyExchange::EcdheEcdsa => {
                self.server_type(credentials).is_some()
                    && self.scheme(credentials).is_some()
                    && self.client_can_show(credentials)
            }
            _ => credentials.psk,
        };
        // Padding of what is authenticated before it is encrypted tells too much: RFC 7366 §1.
        let is_safe = suite.bulk() != Bulk::Cbc || self.encrypt_then_mac;
        offered() && has_key && is_safe && (!exchange.has_ecdhe() || self.has_p256)
    }

    fn scheme(&self, credentials: &Credentials) -> Option<u16> {
        credentials.key.as_ref()?.scheme(&self.schemes)
    }

    /// What the server shows of itself.
    fn server_type(&self, credentials: &Credentials) -> Option<u8> {
        let key = credentials.key.as_ref()?;
        first(self.server_types, |kind| match kind {
            extension::X509 => !key.chain().is_empty(),
            kind => kind == extension::RAW_PUBLIC_KEY,
        })
    }

    /// What the client is to show of itself.
    fn client_type(&self, credentials: &Credentials) -> Option<u8> {
        let verifier = credentials.clients.as_ref()?;
        first(self.client_types, |kind| match kind {
            extension::X509 => verifier.takes_certificates(),
            kind => kind == extension::RAW_PUBLIC_KEY && verifier.takes_raw_keys(),
        })
    }

    /// Whether it can show what it must.
    fn client_can_show(&self, credentials: &Credentials) -> bool {
        let is_required = |verifier: &Arc<dyn ClientVerifier>| verifier.is_required();
        !credentials.clients.as_ref().is_some_and(is_required) || self.client_type(credentials).is_some()
    }
}

/// The client's favourite among its types that will do; who says nothing has certificates. RFC 7250 §4.1
fn first(types: Option<&[u8]>, will_do: impl Fn(u8) -> bool) -> Option<u8> {
    let types = types.unwrap_or(&[extension::X509]);
    types.iter().copied().find(|kind| will_do(*kind))
}
