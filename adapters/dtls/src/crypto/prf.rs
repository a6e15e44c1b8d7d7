//! The pseudorandom function, and what comes of it. RFC 5246 §5, §8.1

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The master secret. RFC 5246 §8.1
pub(crate) type Master = Zeroizing<[u8; 48]>;

/// A hash of messages.
pub(crate) type Hash = [u8; 32];

/// Fills `out`. RFC 5246 §5
pub(crate) fn prf(secret: &[u8], label: &[u8], seeds: &[&[u8]], out: &mut [u8]) {
    let mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length will do");
    let seeded = |mut mac: Hmac<Sha256>| {
        mac.update(label);
        seeds.iter().for_each(|seed| mac.update(seed));
        mac.finalize().into_bytes()
    };
    let mut a = seeded(mac.clone());
    for block in out.chunks_mut(32) {
        let mut part = mac.clone();
        part.update(&a);
        block.copy_from_slice(&seeded(part)[..block.len()]);
        let mut next = mac.clone();
        next.update(&a);
        a = next.finalize().into_bytes();
    }
}

/// SHA-256 of all handshake messages.
pub(crate) fn hash(messages: &[u8]) -> Hash {
    Sha256::digest(messages).into()
}

/// The premaster secret of a shared key, behind what Diffie-Hellman gave or as many zeros as the key has bytes. RFC 4279 §2, RFC 5489 §2
pub(crate) fn psk_premaster(shared: Option<&[u8]>, key: &[u8]) -> Zeroizing<Vec<u8>> {
    let zeros = Zeroizing::new(vec![0; key.len()]);
    let other = shared.unwrap_or(&zeros);
    let mut premaster = Zeroizing::new(Vec::with_capacity(4 + other.len() + key.len()));
    for part in [other, key] {
        let len = u16::try_from(part.len()).expect("keys are short");
        premaster.extend_from_slice(&len.to_be_bytes());
        premaster.extend_from_slice(part);
    }
    premaster
}

/// The master secret of a handshake whose messages up to ClientKeyExchange have this hash. RFC 7627 §4
pub(crate) fn extended_master(premaster: &[u8], session: &Hash) -> Master {
    let mut master = Zeroizing::new([0; 48]);
    prf(premaster, b"extended master secret", &[session], &mut master[..]);
    master
}

/// The master secret with a client that does not know of RFC 7627. RFC 5246 §8.1
pub(crate) fn plain_master(premaster: &[u8], client: &[u8; 32], server: &[u8; 32]) -> Master {
    let mut master = Zeroizing::new([0; 48]);
    prf(premaster, b"master secret", &[client, server], &mut master[..]);
    master
}

/// What a Finished must say. RFC 5246 §7.4.9
pub(crate) fn verify_data(master: &Master, label: &[u8], messages: &Hash) -> [u8; 12] {
    let mut data = [0; 12];
    prf(&master[..], label, &[messages], &mut data);
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector for P_SHA256 that the TLS working group's list has, which implementations test against.
    #[test]
    fn the_function_gives_the_known_vector() {
        let secret = hex("9bbe436ba940f017b17652849a71db35");
        let seed = hex("a0ba9f936cda311827a6f796ffd5198c");
        let mut out = [0; 100];
        prf(&secret, b"test label", &[&seed], &mut out);
        let wanted = "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff70187347b66";
        assert_eq!(out[..], hex(wanted)[..]);
    }

    /// RFC 4279 §2: zeros in the place of another secret; RFC 5489 §2: that secret.
    #[test]
    fn a_shared_key_stands_behind_the_other_secret() {
        assert_eq!(psk_premaster(None, &[1, 2])[..], [0, 2, 0, 0, 0, 2, 1, 2]);
        assert_eq!(psk_premaster(Some(&[9]), &[1, 2])[..], [0, 1, 9, 0, 2, 1, 2]);
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks(2);
        digits
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }
}
