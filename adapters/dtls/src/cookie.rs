//! Cookies: whoever sends one back has received it where it says it is. RFC 6347 §4.2.1
//!
//! Always true: nothing is kept of whoever has not sent one back.

use crate::crypto::Random;
use crate::crypto::keys::alike;
use headgate_dtls_codec::ClientHello;
use headgate_model::Instant;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::hash::{Hash, Hasher};
use std::time::Duration;
use zeroize::Zeroizing;

/// Bytes of a cookie.
pub(crate) const COOKIE_LEN: usize = 16;
/// A cookie is good for this long at least, and twice as long at most.
const GOOD_FOR: Duration = Duration::from_secs(60);

type Secret = Zeroizing<[u8; 32]>;

pub(crate) struct Cookies {
    current: Secret,
    last: Secret,
    since: Instant,
}

impl Cookies {
    pub(crate) fn new(random: &mut dyn Random, now: Instant) -> Self {
        Self {
            current: secret(random),
            last: secret(random),
            since: now,
        }
    }

    /// The cookie of a hello that came from there.
    pub(crate) fn make<A: Hash>(
        &mut self,
        from: A,
        hello: &ClientHello<'_>,
        random: &mut dyn Random,
        now: Instant,
    ) -> [u8; COOKIE_LEN] {
        self.rotate(random, now);
        cookie(&self.current, from, hello)
    }

    /// Whether a hello has the cookie that it was given there.
    pub(crate) fn is_good<A: Hash + Copy>(
        &mut self,
        from: A,
        hello: &ClientHello<'_>,
        random: &mut dyn Random,
        now: Instant,
    ) -> bool {
        if hello.cookie.len() != COOKIE_LEN {
            return false;
        }
        self.rotate(random, now);
        let of = |secret: &Secret| alike(&cookie(secret, from, hello), hello.cookie);
        of(&self.current) | of(&self.last)
    }

    fn rotate(&mut self, random: &mut dyn Random, now: Instant) {
        let age = now.since(self.since);
        if age < GOOD_FOR {
            return;
        }
        let fresh = secret(random);
        self.last = std::mem::replace(&mut self.current, fresh);
        if age >= 2 * GOOD_FOR {
            self.last = secret(random);
        }
        self.since = now;
    }
}

fn secret(random: &mut dyn Random) -> Secret {
    let mut secret = Zeroizing::new([0; 32]);
    random.fill(&mut secret[..]);
    secret
}

/// All that a client says again word for word.
fn cookie<A: Hash>(secret: &Secret, from: A, hello: &ClientHello<'_>) -> [u8; COOKIE_LEN] {
    let mut mac = MacHasher(Hmac::new_from_slice(&secret[..]).expect("any length will do"));
    from.hash(&mut mac);
    mac.write(&hello.version.to_be_bytes());
    mac.write(&hello.random);
    for part in [
        hello.session_id,
        hello.suites,
        hello.compression,
        hello.extensions.bytes(),
    ] {
        mac.write(&(part.len() as u32).to_be_bytes());
        mac.write(part);
    }
    let mut cookie = [0; COOKIE_LEN];
    cookie.copy_from_slice(&mac.0.finalize().into_bytes()[..COOKIE_LEN]);
    cookie
}

/// Takes the bytes of any address.
struct MacHasher(Hmac<Sha256>);

impl Hasher for MacHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        // Nobody asks: the whole is taken instead.
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_dtls_codec::DTLS_1_2;

    fn hello(cookie: &[u8]) -> ClientHello<'_> {
        ClientHello {
            version: DTLS_1_2,
            random: [3; 32],
            session_id: &[],
            cookie,
            suites: &[0xC0, 0xA8],
            compression: &[0],
            extensions: Default::default(),
        }
    }

    /// RFC 6347 §4.2.1: bound to the address and to what was said, and to secrets that change.
    #[test]
    fn a_cookie_is_good_where_and_for_what_it_was_given_and_not_for_long() {
        let mut n = 0;
        let mut random = |bytes: &mut [u8]| {
            n += 1;
            bytes.fill(n);
        };
        let mut cookies = Cookies::new(&mut random, Instant(0));
        let cookie = cookies.make(7u8, &hello(&[]), &mut random, Instant(0));
        let good = |cookies: &mut Cookies, from: u8, hello: &ClientHello<'_>, at| {
            let mut random = |bytes: &mut [u8]| bytes.fill(99);
            cookies.is_good(from, hello, &mut random, Instant(at))
        };
        assert!(good(&mut cookies, 7, &hello(&cookie), 0));
        assert!(!good(&mut cookies, 8, &hello(&cookie), 0));
        assert!(!good(&mut cookies, 7, &hello(&cookie[..15]), 0));
        let other = ClientHello {
            suites: &[0xC0, 0xA9],
            ..hello(&cookie)
        };
        assert!(!good(&mut cookies, 7, &other, 0));
        assert!(good(&mut cookies, 7, &hello(&cookie), 60_000));
        assert!(good(&mut cookies, 7, &hello(&cookie), 119_999));
        assert!(!good(&mut cookies, 7, &hello(&cookie), 120_000));
    }
}
