//! Diffie-Hellman over P-256. RFC 8422 §5.10

use super::Random;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::{PublicKey, SecretKey};
use zeroize::Zeroizing;

/// A secret for one handshake.
pub(crate) struct Ephemeral(SecretKey);

impl Ephemeral {
    pub(crate) fn new(random: &mut dyn Random) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        loop {
            random.fill(&mut bytes[..]);
            // One in 2^32 is no scalar.
            if let Ok(secret) = SecretKey::from_slice(&bytes[..]) {
                return Self(secret);
            }
        }
    }

    /// Our point, uncompressed.
    pub(crate) fn point(&self) -> Vec<u8> {
        self.0.public_key().to_encoded_point(false).as_bytes().to_vec()
    }

    /// What both share; `None` if the other's is no point of the curve.
    pub(crate) fn shared(&self, point: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        // RFC 8422 §5.4: no other way of writing points is left.
        if point.first() != Some(&4) {
            return None;
        }
        let other = PublicKey::from_sec1_bytes(point).ok()?;
        let shared = p256::ecdh::diffie_hellman(self.0.to_nonzero_scalar(), other.as_affine());
        Some(Zeroizing::new((*shared.raw_secret_bytes()).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_come_to_the_same_and_a_point_beside_the_curve_to_nothing() {
        let mut n = 0;
        let mut random = |bytes: &mut [u8]| {
            n += 1;
            bytes.fill(n);
        };
        let (a, b) = (Ephemeral::new(&mut random), Ephemeral::new(&mut random));
        let mut point = b.point();
        assert_eq!(a.shared(&point), b.shared(&a.point()));
        assert!(a.shared(&point).is_some());
        point[64] ^= 1;
        assert!(a.shared(&point).is_none());
        assert!(a.shared(&[0]).is_none());
        assert!(a.shared(&[]).is_none());
    }
}
