//! The messages that begin a handshake. RFC 6347 §4.2.1, RFC 5246 §7.4.1

use crate::DecodeError;
use crate::extension::{self, Extensions};
use crate::reader::{Reader, put_vec8, put_vec16};

/// Bytes of a random.
pub const RANDOM_LEN: usize = 32;

/// What a client offers. Its lists are as they are on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello<'a> {
    /// The best version that it speaks.
    pub version: u16,
    /// Its random.
    pub random: [u8; RANDOM_LEN],
    /// A session to resume; empty for none.
    pub session_id: &'a [u8],
    /// The cookie of a HelloVerifyRequest; empty in the first message.
    pub cookie: &'a [u8],
    /// Cipher suites, two bytes each.
    pub suites: &'a [u8],
    /// Compression methods.
    pub compression: &'a [u8],
    /// Extensions, well-formed and each at most once.
    pub extensions: Extensions<'a>,
}

impl<'a> ClientHello<'a> {
    /// Reads the body of a message.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "ClientHello";
        let mut reader = Reader::new(body, WHAT);
        let version = reader.u16()?;
        let random = reader.array()?;
        let session_id = reader.vec8()?;
        if session_id.len() > 32 {
            return Err(DecodeError::Value(WHAT));
        }
        let cookie = reader.vec8()?;
        let suites = reader.vec16()?;
        if suites.is_empty() || suites.len() % 2 != 0 {
            return Err(DecodeError::Value(WHAT));
        }
        let compression = reader.vec8()?;
        if compression.is_empty() {
            return Err(DecodeError::Value(WHAT));
        }
        Ok(Self {
            version,
            random,
            session_id,
            cookie,
            suites,
            compression,
            extensions: read_extensions(reader)?,
        })
    }

    /// Appends the body of a message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&self.random);
        put_vec8(out, self.session_id);
        put_vec8(out, self.cookie);
        put_vec16(out, self.suites);
        put_vec8(out, self.compression);
        if !self.extensions.is_empty() {
            put_vec16(out, self.extensions.bytes());
        }
    }

    /// The numbers of its cipher suites, best first.
    pub fn suites(&self) -> impl Iterator<Item = u16> + use<'a> {
        extension::numbers(self.suites)
    }
}

/// What the server chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerHello<'a> {
    /// The version that is spoken.
    pub version: u16,
    /// The server's random.
    pub random: [u8; RANDOM_LEN],
    /// The session's name; empty when it cannot be resumed.
    pub session_id: &'a [u8],
    /// The cipher suite.
    pub suite: u16,
    /// Answers to extensions of the client.
    pub extensions: Extensions<'a>,
}

impl<'a> ServerHello<'a> {
    /// Reads the body of a message.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "ServerHello";
        let mut reader = Reader::new(body, WHAT);
        let version = reader.u16()?;
        let random = reader.array()?;
        let session_id = reader.vec8()?;
        let suite = reader.u16()?;
        // The null compression is the only one.
        if session_id.len() > 32 || reader.u8()? != 0 {
            return Err(DecodeError::Value(WHAT));
        }
        Ok(Self {
            version,
            random,
            session_id,
            suite,
            extensions: read_extensions(reader)?,
        })
    }

    /// Appends the body of a message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&self.random);
        put_vec8(out, self.session_id);
        out.extend_from_slice(&self.suite.to_be_bytes());
        out.push(0);
        if !self.extensions.is_empty() {
            put_vec16(out, self.extensions.bytes());
        }
    }
}

/// Extensions stand at the end, or are not there at all. RFC 5246 §7.4.1.2
fn read_extensions<'a>(mut reader: Reader<'a>) -> Result<Extensions<'a>, DecodeError> {
    if reader.is_empty() {
        return Ok(Extensions::default());
    }
    let extensions = Extensions::decode(reader.vec16()?)?;
    reader.end()?;
    Ok(extensions)
}
