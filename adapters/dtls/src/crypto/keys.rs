//! How records are protected. RFC 5246 §6.2.3, RFC 6655, RFC 5288, RFC 7366; with a Connection ID RFC 9146 §5.
//!
//! Always true: nothing of a record is used before all of it is authentic.

use super::prf::{Master, prf};
use aes::Aes128;
use aes::cipher::{BlockDecrypt, BlockEncrypt, KeyInit};
use aes_gcm::Aes128Gcm;
use aes_gcm::aead::AeadInPlace;
use aes_gcm::aead::generic_array::GenericArray;
use aes_gcm::aead::generic_array::typenum::{U8, U12, U16};
use ccm::Ccm;
use headgate_dtls_codec::{Bulk, ContentType, Record, RecordHeader};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of a nonce that are in each record.
const EXPLICIT: usize = 8;
const BLOCK: usize = 16;
const MAC: usize = 32;
/// The most that a record may carry. RFC 5246 §6.2.1
const MAX_PLAINTEXT: usize = 1 << 14;

/// What stands for the sequence number in what is authenticated, for that is elsewhere. RFC 9146 §5
const PLACEHOLDER: [u8; 8] = [0xFF; 8];

/// The keys of one direction. They are expanded for each record, so that a session that rests is small.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Keys {
    #[zeroize(skip)]
    bulk: Bulk,
    key: [u8; 16],
    iv: [u8; 4],
    mac: [u8; MAC],
}

/// A record is not of the peer, or was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forged;

/// The client's keys and the server's. RFC 5246 §6.3
pub(crate) fn derive(bulk: Bulk, master: &Master, client: &[u8; 32], server: &[u8; 32]) -> (Keys, Keys) {
    let mut block = Zeroizing::new([0; 2 * (MAC + 16 + 4)]);
    let (macs, ivs) = match bulk {
        Bulk::Cbc => (MAC, 0),
        _ => (0, 4),
    };
    let len = 2 * (macs + 16 + ivs);
    prf(
        &master[..],
        b"key expansion",
        &[server, client],
        &mut block[..len],
    );
    let mut rest = &block[..];
    let mut keys = [(); 2].map(|()| Keys {
        bulk,
        key: [0; 16],
        iv: [0; 4],
        mac: [0; MAC],
    });
    let mut take = |into: &mut [u8]| {
        let (taken, behind) = rest.split_at(into.len());
        into.copy_from_slice(taken);
        rest = behind;
    };
    keys.iter_mut().for_each(|keys| take(&mut keys.mac[..macs]));
    keys.iter_mut().for_each(|keys| take(&mut keys.key));
    keys.iter_mut().for_each(|keys| take(&mut keys.iv[..ivs]));
    let [client, server] = keys;
    (client, server)
}

impl Keys {
    /// The most bytes that a record has beside what it carries, without its header.
    pub(crate) fn overhead(&self) -> usize {
        // The true type, with a Connection ID.
        1 + match self.bulk {
            Bulk::Ccm8 => EXPLICIT + 8,
            Bulk::Ccm | Bulk::Gcm => EXPLICIT + 16,
            Bulk::Cbc => BLOCK + BLOCK + MAC,
        }
    }

    /// Appends a protected record. `header` says [`ContentType::Tls12Cid`] if the peer has a Connection ID; `content` is what it carries in truth.
    pub(crate) fn seal(
        &self,
        header: &RecordHeader<'_>,
        content: ContentType,
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) {
        let with_cid = header.content == ContentType::Tls12Cid;
        let inner = plaintext.len() + usize::from(with_cid);
        if self.bulk == Bulk::Cbc {
            return self.seal_cbc(header, content, plaintext, out);
        }
        header.write(inner + self.overhead() - 1, out);
        let number = header.number();
        out.extend_from_slice(&number);
        let from = out.len();
        out.extend_from_slice(plaintext);
        if with_cid {
            out.push(content as u8);
        }
        let associated = associated(header, inner);
        let nonce = self.nonce(&number);
        let tag = self.encrypt(&nonce, &associated, &mut out[from..]);
        out.extend_from_slice(&tag[..self.overhead() - 1 - EXPLICIT]);
    }

    /// What a record carries, and of what type it is.
    pub(crate) fn open(&self, record: &Record<'_>) -> Result<(ContentType, Vec<u8>), Forged> {
        let header = RecordHeader {
            content: record.content,
            version: record.version,
            epoch: record.epoch,
            sequence: record.sequence,
            cid: record.cid,
        };
        let mut plaintext = match self.bulk {
            Bulk::Cbc => self.open_cbc(&header, record.fragment)?,
            _ => self.open_aead(&header, record.fragment)?,
        };
        let mut content = record.content;
        if content == ContentType::Tls12Cid {
            // Zeros may stand behind the true type. RFC 9146 §4
            let at = plaintext.iter().rposition(|byte| *byte != 0).ok_or(Forged)?;
            content = ContentType::from_u8(plaintext[at]).map_err(|_| Forged)?;
            plaintext.truncate(at);
        }
        if plaintext.len() > MAX_PLAINTEXT || content == ContentType::Tls12Cid {
            return Err(Forged);
        }
        Ok((content, plaintext))
    }

    fn open_aead(&self, header: &RecordHeader<'_>, fragment: &[u8]) -> Result<Vec<u8>, Forged> {
        let (explicit, sealed) = fragment.split_first_chunk().ok_or(Forged)?;
        let tag_len = self.overhead() - 1 - EXPLICIT;
        let len = sealed.len().checked_sub(tag_len).ok_or(Forged)?;
        let (sealed, tag) = sealed.split_at(len);
        let associated = associated(header, len);
        let mut plaintext = sealed.to_vec();
        self.decrypt(&self.nonce(explicit), &associated, &mut plaintext, tag)?;
        Ok(plaintext)
    }

    /// RFC 6655 §3, RFC 5288 §3
    fn nonce(&self, explicit: &[u8; EXPLICIT]) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.iv);
        nonce[4..].copy_from_slice(explicit);
        nonce
    }

    fn encrypt(&self, nonce: &[u8; 12], associated: &[u8], text: &mut [u8]) -> [u8; 16] {
        let (key, nonce) = (self.key.into(), GenericArray::from_slice(nonce));
        let mut tag = [0; 16];
        let sealed = match self.bulk {
            Bulk::Ccm8 => Ccm::<Aes128, U8, U12>::new(&key)
                .encrypt_in_place_detached(nonce, associated, text)
                .map(|found| tag[..8].copy_from_slice(&found)),
            Bulk::Ccm => Ccm::<Aes128, U16, U12>::new(&key)
                .encrypt_in_place_detached(nonce, associated, text)
                .map(|found| tag.copy_from_slice(&found)),
            _ => Aes128Gcm::new(&key)
                .encrypt_in_place_detached(nonce, associated, text)
                .map(|found| tag.copy_from_slice(&found)),
        };
        sealed.expect("a record is short");
        tag
    }

    fn decrypt(
        &self,
        nonce: &[u8; 12],
        associated: &[u8],
        text: &mut [u8],
        tag: &[u8],
    ) -> Result<(), Forged> {
        let (key, nonce) = (self.key.into(), GenericArray::from_slice(nonce));
        let opened = match self.bulk {
            Bulk::Ccm8 => Ccm::<Aes128, U8, U12>::new(&key).decrypt_in_place_detached(
                nonce,
                associated,
                text,
                GenericArray::from_slice(tag),
            ),
            Bulk::Ccm => Ccm::<Aes128, U16, U12>::new(&key).decrypt_in_place_detached(
                nonce,
                associated,
                text,
                GenericArray::from_slice(tag),
            ),
            _ => Aes128Gcm::new(&key).decrypt_in_place_detached(
                nonce,
                associated,
                text,
                GenericArray::from_slice(tag),
            ),
        };
        opened.map_err(|_| Forged)
    }

    /// RFC 7366 §3
    fn seal_cbc(&self, header: &RecordHeader<'_>, content: ContentType, plaintext: &[u8], out: &mut Vec<u8>) {
        let mut text = plaintext.to_vec();
        if header.content == ContentType::Tls12Cid {
            text.push(content as u8);
        }
        // RFC 5246 §6.2.3.2: as many bytes as the last says, and that one.
        let padding = BLOCK - 1 - text.len() % BLOCK;
        text.extend(std::iter::repeat_n(padding as u8, padding + 1));
        let len = BLOCK + text.len();
        header.write(len + MAC, out);
        let from = out.len();
        let cipher = Aes128::new(&self.key.into());
        let mut last = self.cbc_iv(header);
        out.extend_from_slice(&last);
        for block in text.chunks_exact(BLOCK) {
            last.iter_mut().zip(block).for_each(|(a, b)| *a ^= b);
            cipher.encrypt_block(GenericArray::from_mut_slice(&mut last));
            out.extend_from_slice(&last);
        }
        text.zeroize();
        let mac = self.cbc_mac(header, &out[from..]).finalize().into_bytes();
        out.extend_from_slice(&mac);
    }

    /// The MAC is looked at first, so that padding tells nothing. RFC 7366 §3
    fn open_cbc(&self, header: &RecordHeader<'_>, fragment: &[u8]) -> Result<Vec<u8>, Forged> {
        let len = fragment.len().checked_sub(MAC).ok_or(Forged)?;
        let (encrypted, mac) = fragment.split_at(len);
        let found = self.cbc_mac(header, encrypted);
        found.verify_slice(mac).map_err(|_| Forged)?;
        if len < 2 * BLOCK || len % BLOCK != 0 {
            return Err(Forged);
        }
        let cipher = Aes128::new(&self.key.into());
        let mut plaintext = Vec::with_capacity(len);
        for (last, block) in encrypted
            .chunks_exact(BLOCK)
            .zip(encrypted.chunks_exact(BLOCK).skip(1))
        {
            let mut block = *GenericArray::from_slice(block);
            cipher.decrypt_block(&mut block);
            plaintext.extend(block.iter().zip(last).map(|(a, b)| a ^ b));
        }
        let padding = usize::from(plaintext[plaintext.len() - 1]);
        let end = plaintext.len().checked_sub(padding + 1).ok_or(Forged)?;
        let is_padding = plaintext[end..].iter().all(|byte| usize::from(*byte) == padding);
        plaintext.truncate(end);
        is_padding.then_some(plaintext).ok_or(Forged)
    }

    /// Nobody can tell it before, and none is there twice. What it is made of is shorter than anything that the MAC is made of.
    fn cbc_iv(&self, header: &RecordHeader<'_>) -> [u8; BLOCK] {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.mac).expect("any length will do");
        mac.update(b"iv");
        mac.update(&header.number());
        let mut iv = [0; BLOCK];
        iv.copy_from_slice(&mac.finalize().into_bytes()[..BLOCK]);
        iv
    }

    fn cbc_mac(&self, header: &RecordHeader<'_>, encrypted: &[u8]) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.mac).expect("any length will do");
        mac.update(&associated(header, encrypted.len()));
        mac.update(encrypted);
        mac
    }
}

/// What is authenticated beside a text of `len` bytes. RFC 5246 §6.2.3.3; with a Connection ID RFC 9146 §5.1, §5.3
fn associated(header: &RecordHeader<'_>, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    if header.content == ContentType::Tls12Cid {
        bytes.extend_from_slice(&PLACEHOLDER);
        bytes.push(header.content as u8);
        bytes.push(header.cid.len() as u8);
        bytes.push(header.content as u8);
        bytes.extend_from_slice(&header.version.to_be_bytes());
        bytes.extend_from_slice(&header.number());
        bytes.extend_from_slice(header.cid);
    } else {
        bytes.extend_from_slice(&header.number());
        bytes.push(header.content as u8);
        bytes.extend_from_slice(&header.version.to_be_bytes());
    }
    bytes.extend_from_slice(&(len as u16).to_be_bytes());
    bytes
}

/// Whether two secrets are alike, in the same time for all that have the same length.
pub(crate) fn alike(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_dtls_codec::{DTLS_1_2, next_record};

    const BULKS: [Bulk; 4] = [Bulk::Ccm8, Bulk::Ccm, Bulk::Gcm, Bulk::Cbc];

    fn keys(bulk: Bulk) -> Keys {
        let master = Zeroizing::new([7; 48]);
        derive(bulk, &master, &[1; 32], &[2; 32]).0
    }

    fn header(cid: &[u8]) -> RecordHeader<'_> {
        RecordHeader {
            content: if cid.is_empty() {
                ContentType::ApplicationData
            } else {
                ContentType::Tls12Cid
            },
            version: DTLS_1_2,
            epoch: 1,
            sequence: 5,
            cid,
        }
    }

    #[test]
    fn what_was_sealed_opens_and_no_bit_of_it_may_change() {
        for bulk in BULKS {
            for cid in [&[][..], &[1, 2, 3]] {
                for len in [0, 1, 15, 16, 17, 300] {
                    let text = vec![9; len];
                    let mut bytes = Vec::new();
                    keys(bulk).seal(&header(cid), ContentType::ApplicationData, &text, &mut bytes);
                    assert!(bytes.len() <= 13 + cid.len() + len + keys(bulk).overhead());
                    let (record, rest) = next_record(&bytes, cid.len()).unwrap();
                    assert!(rest.is_empty());
                    let opened = keys(bulk).open(&record);
                    assert_eq!(opened, Ok((ContentType::ApplicationData, text)));
                    for bit in 0..bytes.len() * 8 {
                        let mut changed = bytes.clone();
                        changed[bit / 8] ^= 1 << (bit % 8);
                        if let Ok((record, _)) = next_record(&changed, cid.len()) {
                            assert_eq!(keys(bulk).open(&record), Err(Forged), "{bulk:?} bit {bit}");
                        }
                    }
                }
            }
        }
    }

    /// RFC 3610 §8, packet vector 1, has a nonce of 13 bytes; NIST SP 800-38C, example 3, has 12 and a tag of 8.
    #[test]
    fn ccm_gives_the_known_vector() {
        let key: Vec<u8> = (0x40..0x50).collect();
        let nonce: Vec<u8> = (0x10..0x1C).collect();
        let associated: Vec<u8> = (0..20).collect();
        let mut text: Vec<u8> = (0x20..0x38).collect();
        let tag = Ccm::<Aes128, U8, U12>::new(GenericArray::from_slice(&key))
            .encrypt_in_place_detached(GenericArray::from_slice(&nonce), &associated, &mut text)
            .unwrap();
        let wanted = [
            0xe3, 0xb2, 0x01, 0xa9, 0xf5, 0xb7, 0x1a, 0x7a, 0x9b, 0x1c, 0xea, 0xec, 0xcd, 0x97, 0xe7, 0x0b,
            0x61, 0x76, 0xaa, 0xd9, 0xa4, 0x42, 0x8a, 0xa5,
        ];
        assert_eq!(text, wanted);
        assert_eq!(tag[..], [0x48, 0x43, 0x92, 0xfb, 0xc1, 0xb0, 0x99, 0x51]);
    }

    /// RFC 9146 §4: zeros behind the true type are no part of what is said; a record of zeros alone says nothing.
    #[test]
    fn padding_behind_the_true_type_is_taken_off() {
        let (keys, header) = (keys(Bulk::Ccm8), header(&[1, 2, 3]));
        let sealed = |inner: &[u8]| {
            // What `seal` adds is the last byte of what is inside.
            let (last, text) = inner.split_last().unwrap();
            let mut bytes = Vec::new();
            header.write(inner.len() + 16, &mut bytes);
            bytes.extend_from_slice(&header.number());
            let from = bytes.len();
            bytes.extend_from_slice(text);
            bytes.push(*last);
            let tag = keys.encrypt(
                &keys.nonce(&header.number()),
                &associated(&header, inner.len()),
                &mut bytes[from..],
            );
            bytes.extend_from_slice(&tag[..8]);
            bytes
        };
        let bytes = sealed(&[5, 0, 23, 0, 0]);
        let (record, _) = next_record(&bytes, 3).unwrap();
        assert_eq!(keys.open(&record), Ok((ContentType::ApplicationData, vec![5, 0])));
        let bytes = sealed(&[0, 0]);
        let (record, _) = next_record(&bytes, 3).unwrap();
        assert_eq!(keys.open(&record), Err(Forged));
    }
}
