//! The server against a client of our own, on a virtual clock and a link that loses, doubles and reorders.

mod attacks;
mod client;
mod handshakes;
mod ledger;
mod link;
mod resumption;
mod sessions;

use crate::credentials::{ClientVerifier, Credentials, ServerKey, Shown};
use headgate_dtls_codec::Description;
use headgate_dtls_codec::extension::ECDSA_SECP256R1_SHA256;
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use std::sync::Arc;

/// A signing key from a number.
fn signing_key(n: u8) -> SigningKey {
    SigningKey::from_slice(&[n; 32]).unwrap()
}

fn point(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_encoded_point(false).as_bytes().to_vec()
}

/// A server's key; its certificate is its point, and a few thousand bytes behind it.
struct TestKey(SigningKey, Vec<Vec<u8>>, Vec<u8>);

impl ServerKey for TestKey {
    fn chain(&self) -> &[Vec<u8>] {
        &self.1
    }

    fn public_key(&self) -> &[u8] {
        &self.2
    }

    fn scheme(&self, offered: &[u16]) -> Option<u16> {
        offered
            .contains(&ECDSA_SECP256R1_SHA256)
            .then_some(ECDSA_SECP256R1_SHA256)
    }

    fn sign(&self, _: u16, message: &[u8]) -> Option<Vec<u8>> {
        let signature: Signature = self.0.sign(message);
        Some(signature.to_der().as_bytes().to_vec())
    }
}

/// Takes one key, as a certificate or raw.
struct TestVerifier {
    known: Vec<u8>,
    required: bool,
}

impl ClientVerifier for TestVerifier {
    fn is_required(&self) -> bool {
        self.required
    }

    fn takes_raw_keys(&self) -> bool {
        true
    }

    fn schemes(&self) -> &[u16] {
        &[ECDSA_SECP256R1_SHA256]
    }

    fn verify(&self, shown: &Shown) -> Result<(), Description> {
        match *key_of(shown) == self.known {
            true => Ok(()),
            false => Err(Description::UNKNOWN_CA),
        }
    }

    fn verify_signature(&self, shown: &Shown, _: u16, message: &[u8], signature: &[u8]) -> bool {
        let key = VerifyingKey::from_sec1_bytes(key_of(shown)).unwrap();
        Signature::from_der(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
    }
}

fn key_of(shown: &Shown) -> &Vec<u8> {
    match shown {
        Shown::Certificates(chain) => &chain[0],
        Shown::RawKey(key) => key,
    }
}

/// Shared keys, a server's key, and clients that may show one.
fn credentials(required: bool) -> Credentials {
    let server = signing_key(1);
    let chain = vec![point(&server), vec![7; 3000]];
    let public = point(&server);
    Credentials {
        psk: true,
        key: Some(Arc::new(TestKey(server, chain, public))),
        clients: Some(Arc::new(TestVerifier {
            known: point(&signing_key(2)),
            required,
        })),
    }
}
