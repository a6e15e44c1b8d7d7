//! SCRAM-SHA-256, the server's side, without channel binding. RFC 5802, RFC 7677
//!
//! Carried by MQTT 5 enhanced authentication: CONNECT holds the client-first message, AUTH 0x18 the server-first and client-final messages,
//! CONNACK (or AUTH 0x00) the server-final message. MQTT 5 §4.12, non-normative example there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The method's name in CONNECT.
pub(crate) const METHOD: &str = "SCRAM-SHA-256";
/// RFC 7677 §4 asks for at least 4,096.
const ITERATIONS: u32 = 4_096;

/// Bytes of the longest message that is taken. A log-in under way keeps a few copies of the first.
const LONGEST: usize = 2_048;

type Key = [u8; 32];

/// What the server keeps of a password; none of it is enough to log in. RFC 5802 §3
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScramKeys {
    iterations: u32,
    #[serde(with = "base64_text")]
    salt: Vec<u8>,
    #[serde(with = "base64_text")]
    stored_key: Vec<u8>,
    #[serde(with = "base64_text")]
    server_key: Vec<u8>,
}

/// Bytes in base64.
pub(crate) mod base64_text {
    use super::*;

    pub(crate) fn serialize<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text).map_err(serde::de::Error::custom)
    }
}

impl ScramKeys {
    /// The keys of a password.
    pub(crate) fn derive(password: &[u8], salt: &[u8]) -> Self {
        let salted: Key = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password, salt, ITERATIONS);
        let client_key = hmac(&salted, b"Client Key");
        Self {
            iterations: ITERATIONS,
            salt: salt.to_vec(),
            stored_key: Sha256::digest(client_key).to_vec(),
            server_key: hmac(&salted, b"Server Key").to_vec(),
        }
    }

    /// Whether they are those of this password.
    pub(crate) fn are_of(&self, password: &[u8]) -> bool {
        let salted: Key = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password, &self.salt, self.iterations);
        let stored_key = Sha256::digest(hmac(&salted, b"Client Key"));
        stored_key.ct_eq(self.stored_key.as_slice()).into()
    }

    /// Keys that no password has, always the same for one name: an unknown name cannot be told from a wrong password.
    pub(crate) fn of_nobody(secret: &[u8], name: &str) -> Self {
        let key = hmac(secret, name.as_bytes());
        Self {
            iterations: ITERATIONS,
            salt: key[..16].to_vec(),
            stored_key: hmac(&key, b"stored").to_vec(),
            server_key: hmac(&key, b"server").to_vec(),
        }
    }
}

/// The client-first message, taken apart. RFC 5802 §7
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClientFirst {
    /// The name to log in with.
    pub username: String,
    nonce: String,
    gs2_header: String,
    bare: String,
}

impl ClientFirst {
    /// `n,,n=user,r=nonce`. Channel binding and authorisation identities are not offered.
    pub(crate) fn parse(data: &[u8]) -> Option<Self> {
        let text = short_text(data)?;
        let (gs2_header, bare) = ["n,,", "y,,"]
            .iter()
            .find_map(|h| Some((*h, text.strip_prefix(h)?)))?;
        let mut attributes = bare.split(',');
        let username = attributes.next()?.strip_prefix("n=")?;
        let nonce = attributes
            .next()?
            .strip_prefix("r=")
            .filter(|nonce| !nonce.is_empty())?;
        Some(Self {
            username: unescape(username)?,
            nonce: nonce.to_owned(),
            gs2_header: gs2_header.to_owned(),
            bare: bare.to_owned(),
        })
    }
}

fn short_text(data: &[u8]) -> Option<&str> {
    (data.len() <= LONGEST).then(|| std::str::from_utf8(data).ok())?
}

/// `=2C` and `=3D` stand for `,` and `=`.
fn unescape(name: &str) -> Option<String> {
    let plain = name.replace("=2C", ",").replace("=3D", "\u{0}");
    (!plain.contains('=') && !plain.is_empty()).then(|| plain.replace('\u{0}', "="))
}

/// A log-in under way: the challenge is out.
pub(crate) struct Exchange {
    keys: ScramKeys,
    first: ClientFirst,
    server_first: String,
    nonce: String,
}

impl Exchange {
    /// The challenge. `server_nonce` is printable and never used twice.
    pub(crate) fn start(first: ClientFirst, keys: ScramKeys, server_nonce: &str) -> (Self, String) {
        let nonce = format!("{}{server_nonce}", first.nonce);
        let server_first = format!("r={nonce},s={},i={}", BASE64.encode(&keys.salt), keys.iterations);
        (
            Self {
                keys,
                first,
                server_first: server_first.clone(),
                nonce,
            },
            server_first,
        )
    }

    /// Whether the challenge was made with these keys.
    pub(crate) fn is_with(&self, keys: &ScramKeys) -> bool {
        self.keys == *keys
    }

    /// Who is logging in.
    pub(crate) fn username(&self) -> &str {
        &self.first.username
    }

    /// Checks the client-final message `c=biws,r=nonce,p=proof`; the server-final message if the proof is right.
    pub(crate) fn finish(&self, data: &[u8]) -> Option<String> {
        let text = short_text(data)?;
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut attributes = without_proof.split(',');
        let binding = BASE64.decode(attributes.next()?.strip_prefix("c=")?).ok()?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        if binding != self.first.gs2_header.as_bytes() || nonce != self.nonce {
            return None;
        }
        let signed = format!("{},{},{without_proof}", self.first.bare, self.server_first);
        let signature = hmac(&self.keys.stored_key, signed.as_bytes());
        let proof: Key = BASE64.decode(proof).ok()?.try_into().ok()?;
        let client_key: Vec<u8> = proof.iter().zip(signature).map(|(p, s)| p ^ s).collect();
        if !bool::from(Sha256::digest(client_key).as_slice().ct_eq(&self.keys.stored_key)) {
            return None;
        }
        let verifier = hmac(&self.keys.server_key, signed.as_bytes());
        Some(format!("v={}", BASE64.encode(verifier)))
    }
}

fn hmac(key: &[u8], data: &[u8]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The client's side: its answer to a challenge. RFC 5802 §3
    pub(crate) fn client_final(first_bare: &str, challenge: &[u8], password: &str) -> String {
        let challenge = std::str::from_utf8(challenge).unwrap();
        let mut attributes = challenge.split(',').map(|attribute| &attribute[2..]);
        let [nonce, salt, iterations] = std::array::from_fn(|_| attributes.next().unwrap());
        let salt = BASE64.decode(salt).unwrap();
        let salted: Key =
            pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), &salt, iterations.parse().unwrap());
        let client_key = hmac(&salted, b"Client Key");
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{first_bare},{challenge},{without_proof}");
        let signature = hmac(&Sha256::digest(client_key), signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(k, s)| k ^ s).collect();
        format!("{without_proof},p={}", BASE64.encode(proof))
    }

    /// The test's client makes the proof of RFC 7677 §3.
    #[test]
    fn the_example_of_the_rfc_is_what_the_client_says() {
        let challenge =
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let said = client_final("n=user,r=rOprNGfwEbeRWgbNEkqO", challenge, "pencil");
        assert!(
            said.ends_with(",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
            "{said}"
        );
    }

    /// The exchange of RFC 7677 §3.
    #[test]
    fn the_example_of_the_rfc_logs_in() {
        let first = ClientFirst::parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = ScramKeys::derive(b"pencil", &salt);
        let (exchange, challenge) = Exchange::start(first, keys, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
        assert_eq!(
            challenge,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let answer = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(
            exchange.finish(answer).as_deref(),
            Some("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
        );
        assert_eq!(exchange.username(), "user");

        let wrong = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            p=AHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(exchange.finish(wrong), None);
        let replayed = b"c=biws,r=rOprNGfwEbeRWgbNEkqO,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(exchange.finish(replayed), None, "the nonce must be ours too");
    }

    #[test]
    fn other_messages_are_refused() {
        for bad in [
            "",
            "n,,n=,r=x",
            "n,,n=user",
            "n,,n=user,r=",
            "p=tls-unique,,n=user,r=x",
            "n,a=admin,n=u,r=x",
        ] {
            assert_eq!(ClientFirst::parse(bad.as_bytes()), None, "{bad}");
        }
        let long = format!("n,,n=user,r={}", "x".repeat(LONGEST));
        assert_eq!(ClientFirst::parse(long.as_bytes()), None);
        assert_eq!(
            ClientFirst::parse(b"n,,n=a=2Cb=3Dc,r=x").unwrap().username,
            "a,b=c"
        );
        assert_eq!(ClientFirst::parse(b"n,,n=a=20,r=x"), None);
    }
}
