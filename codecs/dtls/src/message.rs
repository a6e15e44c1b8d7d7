//! The messages between the hellos and the end of a handshake. RFC 5246 §7.4

use crate::reader::{Reader, put_vec8, put_vec16, put_vec24};
use crate::{DecodeError, KeyExchange};

/// Bytes of what a Finished says. RFC 5246 §7.4.9
pub const VERIFY_DATA: usize = 12;

/// Curves are told by name. RFC 8422 §5.4
const NAMED_CURVE: u8 = 3;

/// "Say this again, so that I know that you are there." RFC 6347 §4.2.1
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloVerifyRequest<'a> {
    /// Always that of DTLS 1.0.
    pub version: u16,
    /// What the client is to send.
    pub cookie: &'a [u8],
}

impl<'a> HelloVerifyRequest<'a> {
    /// Reads the body of a message.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body, "HelloVerifyRequest");
        let (version, cookie) = (reader.u16()?, reader.vec8()?);
        reader.end()?;
        Ok(Self { version, cookie })
    }

    /// Appends the body of a message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_be_bytes());
        put_vec8(out, self.cookie);
    }
}

/// The certificates of a Certificate message, its own first. RFC 5246 §7.4.2
pub fn certificates(body: &[u8]) -> Result<Vec<&[u8]>, DecodeError> {
    let mut reader = Reader::new(body, "Certificate");
    let mut list = Reader::new(reader.vec24()?, "Certificate");
    reader.end()?;
    let mut all = Vec::new();
    while !list.is_empty() {
        all.push(list.vec24()?);
    }
    Ok(all)
}

/// Appends the body of a Certificate message.
pub fn write_certificates<'a>(chain: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    let mut list = Vec::new();
    chain.for_each(|certificate| put_vec24(&mut list, certificate));
    put_vec24(out, &list);
}

/// The raw public key of a Certificate message. RFC 7250 §3
pub fn raw_public_key(body: &[u8]) -> Result<&[u8], DecodeError> {
    let mut reader = Reader::new(body, "Certificate");
    let key = reader.vec24()?;
    reader.end()?;
    Ok(key)
}

/// Appends the body of a Certificate message with a raw public key.
pub fn write_raw_public_key(key: &[u8], out: &mut Vec<u8>) {
    put_vec24(out, key);
}

/// A signature, and how it was made. RFC 5246 §4.7
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed<'a> {
    /// Such as [`ECDSA_SECP256R1_SHA256`](crate::extension::ECDSA_SECP256R1_SHA256).
    pub scheme: u16,
    /// The signature.
    pub signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Reads the body of a CertificateVerify.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        Self::read(Reader::new(body, "CertificateVerify"))
    }

    fn read(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        let (scheme, signature) = (reader.u16()?, reader.vec16()?);
        reader.end()?;
        Ok(Self { scheme, signature })
    }

    /// Appends it: the body of a CertificateVerify, the end of a ServerKeyExchange.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.scheme.to_be_bytes());
        put_vec16(out, self.signature);
    }
}

/// What the server says for the key exchange. RFC 8422 §5.4, RFC 5489 §2, RFC 4279 §2
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerKeyExchange<'a> {
    /// With a shared key: which one the client should take; we never say.
    pub hint: Option<&'a [u8]>,
    /// With Diffie-Hellman: the curve, and the server's point.
    pub point: Option<(u16, &'a [u8])>,
    /// With ECDSA: over both randoms and the point.
    pub signed: Option<Signed<'a>>,
}

impl<'a> ServerKeyExchange<'a> {
    /// Reads the body of a message.
    pub fn decode(exchange: KeyExchange, body: &'a [u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "ServerKeyExchange";
        let mut reader = Reader::new(body, WHAT);
        let hint = exchange.has_psk().then(|| reader.vec16()).transpose()?;
        let mut point = None;
        if exchange.has_ecdhe() {
            if reader.u8()? != NAMED_CURVE {
                return Err(DecodeError::Value(WHAT));
            }
            point = Some((reader.u16()?, reader.vec8()?));
        }
        let mut signed = None;
        if exchange == KeyExchange::EcdheEcdsa {
            signed = Some(Signed::read(reader)?);
        } else {
            reader.end()?;
        }
        Ok(Self { hint, point, signed })
    }

    /// Appends the body of a message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if let Some(hint) = self.hint {
            put_vec16(out, hint);
        }
        if let Some((curve, point)) = self.point {
            write_ecdh_params(curve, point, out);
        }
        if let Some(signed) = self.signed {
            signed.encode(out);
        }
    }
}

/// Appends the curve and the server's point, as they are signed. RFC 8422 §5.4
pub fn write_ecdh_params(curve: u16, point: &[u8], out: &mut Vec<u8>) {
    out.push(NAMED_CURVE);
    out.extend_from_slice(&curve.to_be_bytes());
    put_vec8(out, point);
}

/// What the client says for the key exchange. RFC 8422 §5.7, RFC 5489 §2, RFC 4279 §2
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientKeyExchange<'a> {
    /// With a shared key: which one it is.
    pub identity: Option<&'a [u8]>,
    /// With Diffie-Hellman: its point.
    pub point: Option<&'a [u8]>,
}

impl<'a> ClientKeyExchange<'a> {
    /// Reads the body of a message.
    pub fn decode(exchange: KeyExchange, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body, "ClientKeyExchange");
        let identity = exchange.has_psk().then(|| reader.vec16()).transpose()?;
        let point = exchange.has_ecdhe().then(|| reader.vec8()).transpose()?;
        reader.end()?;
        Ok(Self { identity, point })
    }

    /// Appends the body of a message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if let Some(identity) = self.identity {
            put_vec16(out, identity);
        }
        if let Some(point) = self.point {
            put_vec8(out, point);
        }
    }
}

/// What the server wants of a client's certificate. RFC 5246 §7.4.4
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateRequest<'a> {
    /// Kinds of certificates, such as 64 for ECDSA.
    pub kinds: &'a [u8],
    /// Signatures that can be verified, two bytes each.
    pub schemes: &'a [u8],
    /// Names of CAs, each with its length in two bytes; empty for any.
    pub authorities: &'a [u8],
}

impl<'a> CertificateRequest<'a> {
    /// Reads the body of a message.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body, "CertificateRequest");
        let (kinds, schemes, authorities) = (reader.vec8()?, reader.vec16()?, reader.vec16()?);
        reader.end()?;
        Ok(Self {
            kinds,
            schemes,
            authorities,
        })
    }

    /// Appends the body of a message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_vec8(out, self.kinds);
        put_vec16(out, self.schemes);
        put_vec16(out, self.authorities);
    }
}
