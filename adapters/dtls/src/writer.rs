//! Writes the records of one peer.

use crate::crypto::keys::Keys;
use headgate_dtls_codec::{ContentType, DTLS_1_2, RecordHeader};

/// The last number that a record may have. RFC 6347 §4.1
const LAST: u64 = (1 << 48) - 1;

/// Numbers, keys and the peer's Connection ID.
pub(crate) struct Writer {
    /// The number of the next record without protection.
    plain: u64,
    /// The number of the next record with protection.
    protected: u64,
    keys: Option<Keys>,
    /// Empty if the peer has none.
    cid: Box<[u8]>,
}

impl Writer {
    /// `first`: the number of the first record. RFC 6347 §4.2.1
    pub(crate) fn new(first: u64, cid: Box<[u8]>) -> Self {
        Self {
            plain: first,
            protected: 0,
            keys: None,
            cid,
        }
    }

    pub(crate) fn set_keys(&mut self, keys: Keys) {
        self.keys = Some(keys);
    }

    #[cfg(test)]
    pub(crate) fn set_peer(&mut self, keys: Keys, cid: Box<[u8]>) {
        self.keys = Some(keys);
        self.cid = cid;
    }

    /// Whether no protected record can follow.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.protected > LAST
    }

    /// The most bytes that a record has beside what it carries.
    pub(crate) fn overhead(&self) -> usize {
        let keys = self.keys.as_ref().map_or(0, Keys::overhead);
        headgate_dtls_codec::RECORD_HEADER + self.cid.len() + keys
    }

    /// Appends a record without protection.
    pub(crate) fn plain(&mut self, content: ContentType, payload: &[u8], out: &mut Vec<u8>) {
        let header = RecordHeader {
            content,
            version: DTLS_1_2,
            epoch: 0,
            sequence: self.plain & LAST,
            cid: &[],
        };
        self.plain += 1;
        header.write(payload.len(), out);
        out.extend_from_slice(payload);
    }

    /// Appends a record with protection, if there are keys and a number for it.
    pub(crate) fn protected(&mut self, content: ContentType, payload: &[u8], out: &mut Vec<u8>) {
        let Some(keys) = self.keys.as_ref().filter(|_| self.protected <= LAST) else {
            return;
        };
        let outer = match self.cid.is_empty() {
            true => content,
            false => ContentType::Tls12Cid,
        };
        let header = RecordHeader {
            content: outer,
            version: DTLS_1_2,
            epoch: 1,
            sequence: self.protected,
            cid: &self.cid,
        };
        self.protected += 1;
        keys.seal(&header, content, payload, out);
    }
}
