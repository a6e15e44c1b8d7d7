//! Extensions of the hellos. RFC 5246 §7.4.1.4

use crate::DecodeError;
use crate::reader::{Reader, put_vec8, put_vec16};

/// The host that the client means. RFC 6066 §3
pub const SERVER_NAME: u16 = 0;
/// The longest record that the client takes. RFC 6066 §4
pub const MAX_FRAGMENT_LENGTH: u16 = 1;
/// Curves, best first. RFC 8422 §5.1.1
pub const SUPPORTED_GROUPS: u16 = 10;
/// How points are written. RFC 8422 §5.1.2
pub const EC_POINT_FORMATS: u16 = 11;
/// Signatures that the client can verify. RFC 5246 §7.4.1.4.1
pub const SIGNATURE_ALGORITHMS: u16 = 13;
/// What the client can show of itself: a certificate, a raw public key. RFC 7250 §3
pub const CLIENT_CERTIFICATE_TYPE: u16 = 19;
/// What the client takes of the server. RFC 7250 §3
pub const SERVER_CERTIFICATE_TYPE: u16 = 20;
/// Block ciphers authenticate what they have encrypted. RFC 7366 §2
pub const ENCRYPT_THEN_MAC: u16 = 22;
/// The master secret is bound to the handshake. RFC 7627 §5.1
pub const EXTENDED_MASTER_SECRET: u16 = 23;
/// How records name the session. RFC 9146 §3
pub const CONNECTION_ID: u16 = 54;
/// The end of an old handshake inside a new one. RFC 5746 §3.2
pub const RENEGOTIATION_INFO: u16 = 0xFF01;

/// A certificate, in the extensions of RFC 7250.
pub const X509: u8 = 0;
/// A raw public key, in the extensions of RFC 7250.
pub const RAW_PUBLIC_KEY: u8 = 2;

/// The only way of writing points that is left. RFC 8422 §5.1.2
pub const UNCOMPRESSED: u8 = 0;

/// The curve NIST P-256. RFC 8422 §5.1.1
pub const SECP256R1: u16 = 23;

/// ECDSA over P-256 and SHA-256. RFC 8446 §4.2.3 has the name, RFC 5246 the two bytes
pub const ECDSA_SECP256R1_SHA256: u16 = 0x0403;

const KNOWN: [u16; 11] = [
    SERVER_NAME,
    MAX_FRAGMENT_LENGTH,
    SUPPORTED_GROUPS,
    EC_POINT_FORMATS,
    SIGNATURE_ALGORITHMS,
    CLIENT_CERTIFICATE_TYPE,
    SERVER_CERTIFICATE_TYPE,
    ENCRYPT_THEN_MAC,
    EXTENDED_MASTER_SECRET,
    CONNECTION_ID,
    RENEGOTIATION_INFO,
];

/// The extensions of a hello, as they are on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions<'a>(&'a [u8]);

impl<'a> Extensions<'a> {
    /// Looks whether they are well-formed, and each that is known is there once at most.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, "extensions");
        let mut seen = 0u16;
        while !reader.is_empty() {
            let number = reader.u16()?;
            reader.vec16()?;
            let Some(bit) = KNOWN.iter().position(|known| *known == number) else {
                continue;
            };
            if seen & (1 << bit) != 0 {
                return Err(DecodeError::Twice(number));
            }
            seen |= 1 << bit;
        }
        Ok(Self(bytes))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As they are on the wire, without the length before them.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// What one of them says.
    pub fn get(self, number: u16) -> Option<&'a [u8]> {
        let mut all = self;
        all.find_map(|(known, body)| (known == number).then_some(body))
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = Reader::new(self.0, "extensions");
        let number = reader.u16().ok()?;
        let body = reader.vec16().ok()?;
        self.0 = reader.rest();
        Some((number, body))
    }
}

/// Appends an extension.
pub fn write(number: u16, body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_be_bytes());
    put_vec16(out, body);
}

/// Numbers of two bytes each, as cipher suites are; an odd byte at the end is none.
pub fn numbers(bytes: &[u8]) -> impl Iterator<Item = u16> + use<'_> {
    let pairs = bytes.chunks_exact(2);
    pairs.map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
}

/// A list of numbers of two bytes: groups, signatures.
pub fn list16(body: &[u8]) -> Result<&[u8], DecodeError> {
    let mut reader = Reader::new(body, "list in an extension");
    let list = reader.vec16()?;
    reader.end()?;
    if list.len() % 2 != 0 {
        return Err(DecodeError::Value("list in an extension"));
    }
    Ok(list)
}

/// A list of bytes: point formats, certificate types, a Connection ID.
pub fn list8(body: &[u8]) -> Result<&[u8], DecodeError> {
    let mut reader = Reader::new(body, "list in an extension");
    let list = reader.vec8()?;
    reader.end()?;
    Ok(list)
}

/// Appends a list of bytes.
pub fn write_list8(list: &[u8], out: &mut Vec<u8>) {
    put_vec8(out, list);
}

/// Appends a list of numbers.
pub fn write_list16(list: &[u16], out: &mut Vec<u8>) {
    let bytes: Vec<u8> = list.iter().flat_map(|n| n.to_be_bytes()).collect();
    put_vec16(out, &bytes);
}

/// The first host name of a SERVER_NAME extension. RFC 6066 §3
pub fn host_name(body: &[u8]) -> Option<&str> {
    let mut list = Reader::new(Reader::new(body, "server_name").vec16().ok()?, "server_name");
    while !list.is_empty() {
        let kind = list.u8().ok()?;
        let name = list.vec16().ok()?;
        if kind == 0 {
            return std::str::from_utf8(name).ok();
        }
    }
    None
}
