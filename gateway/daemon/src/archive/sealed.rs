//! What is encrypted by a passphrase: the form of age, version 1, with its `scrypt` recipient (C2SP, age.md), so that `age -d` and `rage -d` open it as well.
//!
//! A header says how much work the passphrase takes, and has the file's key behind it; then come pieces of 64 KiB, each encrypted and authenticated by
//! itself (ChaCha20-Poly1305), of which the last is marked. So any length is written and read with one piece in memory, and what was cut off is noticed.

use super::{ArchiveError, at};
use crate::memory;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use headgate_model::Secret;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::{hkdf, hmac};
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::path::Path;

/// The first line.
pub(super) const MARK: &[u8] = b"age-encryption.org/v1\n";
const SCRYPT_LABEL: &[u8] = b"age-encryption.org/v1/scrypt";
/// The work of a passphrase, as a power of two, for what is written here: 64 MiB of memory, and some tenths of a second.
const WORK: u8 = 16;
/// The most that is read: 256 MiB, as `age` itself writes it, where that is no more than half of the memory there is. Each step more doubles memory and time.
const MOST_WORK: u8 = 18;
/// Characters of a passphrase that something is encrypted with.
const SHORTEST: usize = 12;
/// Bytes of one piece,
const PIECE: usize = 64 << 10;
/// and of what authenticates it.
const TAG: usize = 16;
const FILE_KEY: usize = 16;
/// Bytes of a line of the header, at most.
const LONGEST_LINE: u64 = 128;

/// What an archive is encrypted with.
#[derive(Clone, Debug)]
pub(crate) struct Passphrase(Secret);

impl Passphrase {
    /// To read something with.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// To encrypt something with.
    pub(crate) fn to_seal(text: &str) -> Result<Self, ArchiveError> {
        match text.chars().count() < SHORTEST {
            true => Err(ArchiveError::ShortPassphrase(SHORTEST)),
            false => Ok(Self::new(text)),
        }
    }

    /// The first line of a file, without its end.
    pub(crate) fn of_file(path: &Path) -> Result<Self, ArchiveError> {
        let mut line = String::new();
        let file = File::open(path).map_err(at(path))?;
        let read = BufReader::new(file.take(4_096)).read_line(&mut line);
        read.map_err(at(path))?;
        Ok(Self::new(line.trim_end_matches(['\r', '\n'])))
    }

    /// What it is.
    pub(crate) fn reveal(&self) -> &str {
        self.0.reveal()
    }

    /// Whether it is long enough to encrypt something with.
    pub(crate) fn checked(self) -> Result<Self, ArchiveError> {
        Self::to_seal(self.0.reveal())
    }

    /// The key that the file's key is wrapped with.
    fn wrapping(&self, salt: &[u8; 16], work: u8) -> Result<LessSafeKey, ArchiveError> {
        let salt = [SCRYPT_LABEL, salt].concat();
        let params = scrypt::Params::new(work, 8, 1, 32).map_err(|_| ArchiveError::Work(work))?;
        let mut key = [0; 32];
        scrypt::scrypt(self.0.reveal().as_bytes(), &salt, &params, &mut key)
            .expect("32 bytes are a length of a key");
        Ok(cipher(&key))
    }
}

/// Whether a file begins as one that is encrypted.
pub(crate) fn is_sealed(file: &Path) -> Result<bool, ArchiveError> {
    let mut mark = Vec::new();
    let mut begin = File::open(file).map_err(at(file))?.take(MARK.len() as u64);
    begin.read_to_end(&mut mark).map_err(at(file))?;
    Ok(mark == MARK)
}

/// Looks at the header of an encrypted file alone, which needs no passphrase.
pub(crate) fn look_at_header(file: &Path) -> Result<(), ArchiveError> {
    let file = File::open(file).map_err(at(file))?;
    Header::read(&mut BufReader::new(file)).map(drop)
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("32 bytes are a key"))
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// RFC 5869 with SHA-256
fn derived(file_key: &[u8], salt: &[u8], info: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(file_key)
        .expand(&[info], Length(key.len()))
        .and_then(|filled| filled.fill(&mut key))
        .expect("32 bytes are no more than can be had");
    key
}

/// A header whose passphrase was not tried yet.
struct Header {
    salt: [u8; 16],
    work: u8,
    wrapped: Vec<u8>,
    /// What `mac` is about.
    text: Vec<u8>,
    mac: Vec<u8>,
}

impl Header {
    /// As it is written.
    fn written(passphrase: &Passphrase, file_key: &[u8; FILE_KEY]) -> Result<Vec<u8>, ArchiveError> {
        let salt = random::<16>()?;
        let mut wrapped = file_key.to_vec();
        passphrase
            .wrapping(&salt, WORK)?
            .seal_in_place_append_tag(none(), Aad::empty(), &mut wrapped)
            .expect("16 bytes are no more than can be encrypted");
        let (salt, wrapped) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(wrapped));
        let mut text = MARK.to_vec();
        text.extend_from_slice(format!("-> scrypt {salt} {WORK}\n{wrapped}\n---").as_bytes());
        let mac = hmac::sign(&mac_key(file_key), &text);
        text.extend_from_slice(format!(" {}\n", STANDARD_NO_PAD.encode(mac)).as_bytes());
        Ok(text)
    }

    fn read(from: &mut impl BufRead) -> Result<Self, ArchiveError> {
        let mut text = Vec::new();
        let mut line = || {
            let begin = text.len();
            from.by_ref()
                .take(LONGEST_LINE)
                .read_until(b'\n', &mut text)
                .map_err(ArchiveError::NotAnArchive)?;
            match std::str::from_utf8(&text[begin..])
                .ok()
                .and_then(|line| line.strip_suffix('\n'))
            {
                Some(line) => Ok(line.to_owned()),
                None => Err(malformed("the header of its encryption is none")),
            }
        };
        let (mark, recipient, wrapped, end) = (line()?, line()?, line()?, line()?);
        if mark.as_bytes() != MARK.trim_ascii_end() {
            return Err(malformed("the header of its encryption is none"));
        }
        let Some(words) = recipient.strip_prefix("-> scrypt ") else {
            return Err(malformed("it is encrypted for a key, not by a passphrase"));
        };
        let header = words.split_once(' ').zip(end.strip_prefix("--- "));
        let read = header.and_then(|((salt, work), mac)| {
            let bytes = |text: &str| STANDARD_NO_PAD.decode(text).ok();
            Some(Self {
                salt: bytes(salt)?.try_into().ok()?,
                work: work.parse().ok().filter(|_| !work.starts_with(['0', '+']))?,
                wrapped: bytes(&wrapped)?,
                mac: bytes(mac)?,
                text: text[..text.len() - mac.len() - 2].to_vec(),
            })
        });
        let read = read.filter(|header| header.wrapped.len() == FILE_KEY + TAG);
        let read = read.ok_or_else(|| malformed("the header of its encryption is none"))?;
        match read.work > most_work() {
            true => Err(ArchiveError::Work(read.work)),
            false => Ok(read),
        }
    }

    fn file_key(mut self, passphrase: &Passphrase) -> Result<[u8; FILE_KEY], ArchiveError> {
        let key = passphrase.wrapping(&self.salt, self.work)?;
        let opened = key.open_in_place(none(), Aad::empty(), &mut self.wrapped);
        let opened = opened.map_err(|_| ArchiveError::WrongPassphrase)?;
        let file_key = <[u8; FILE_KEY]>::try_from(&*opened).map_err(|_| ArchiveError::WrongPassphrase)?;
        hmac::verify(&mac_key(&file_key), &self.text, &self.mac)
            .map_err(|_| malformed("the header of its encryption was changed"))?;
        Ok(file_key)
    }
}

/// As far as this machine's memory goes; what gateways write is always read.
fn most_work() -> u8 {
    let half = memory::of_the_machine().map_or(usize::MAX, |bytes| bytes / 2);
    let fits = |work: &u8| 1_usize << (work + 10) <= half;
    (WORK..=MOST_WORK).rev().find(fits).unwrap_or(WORK)
}

fn mac_key(file_key: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &derived(file_key, &[], b"header"))
}

/// For a key that is used once.
fn none() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn random<const N: usize>() -> Result<[u8; N], ArchiveError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| ArchiveError::NotAnArchive(io::Error::other(error)))?;
    Ok(bytes)
}

fn malformed(what: &str) -> ArchiveError {
    ArchiveError::NotAnArchive(damaged(what))
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// The key of the pieces, and which comes next.
struct Pieces {
    key: LessSafeKey,
    next: u64,
}

impl Pieces {
    fn new(file_key: &[u8], nonce: &[u8; 16]) -> Self {
        Self {
            key: cipher(&derived(file_key, nonce, b"payload")),
            next: 0,
        }
    }

    /// Eleven bytes of a number, and one that is 1 for the last.
    fn nonce(&mut self, is_last: bool) -> Nonce {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&self.next.to_be_bytes());
        nonce[11] = u8::from(is_last);
        self.next += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Encrypts what is written. It is whole only when it was [finished](Self::finish).
pub(super) struct Sealing<W> {
    inner: W,
    pieces: Pieces,
    waiting: Vec<u8>,
}

impl<W: Write> Sealing<W> {
    pub(super) fn new(mut inner: W, passphrase: &Passphrase, file: &Path) -> Result<Self, ArchiveError> {
        let (file_key, nonce) = (random::<FILE_KEY>()?, random::<16>()?);
        let header = Header::written(passphrase, &file_key)?;
        let begun = inner.write_all(&header).and_then(|()| inner.write_all(&nonce));
        begun.map_err(at(file))?;
        Ok(Self {
            inner,
            pieces: Pieces::new(&file_key, &nonce),
            waiting: Vec::with_capacity(PIECE + TAG),
        })
    }

    fn send(&mut self, is_last: bool) -> io::Result<()> {
        let nonce = self.pieces.nonce(is_last);
        let sealed = self
            .pieces
            .key
            .seal_in_place_append_tag(nonce, Aad::empty(), &mut self.waiting);
        sealed.expect("a piece is no more than can be encrypted");
        self.inner.write_all(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.send(true)?;
        self.inner.flush()
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Only with more behind it a full piece is not the last.
        if self.waiting.len() == PIECE && !bytes.is_empty() {
            self.send(false)?;
        }
        let n = bytes.len().min(PIECE - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Decrypts what is read. What was changed or cut off is an error at the piece where it was.
pub(super) struct Opened<R> {
    inner: R,
    pieces: Pieces,
    /// What was read ahead of the next piece: a byte, which shows that there is more.
    ahead: Option<u8>,
    piece: Vec<u8>,
    /// How much of `piece` was taken.
    taken: usize,
    was_last: bool,
}

impl<R: BufRead> Opened<R> {
    pub(super) fn new(mut inner: R, passphrase: &Passphrase) -> Result<Self, ArchiveError> {
        let file_key = Header::read(&mut inner)?.file_key(passphrase)?;
        let mut nonce = [0; 16];
        inner.read_exact(&mut nonce).map_err(ArchiveError::NotAnArchive)?;
        Ok(Self {
            inner,
            pieces: Pieces::new(&file_key, &nonce),
            ahead: None,
            piece: Vec::with_capacity(PIECE + TAG + 1),
            taken: 0,
            was_last: false,
        })
    }

    fn next_piece(&mut self) -> io::Result<()> {
        self.piece.clear();
        self.taken = 0;
        self.piece.extend(self.ahead.take());
        let most = PIECE + TAG + 1;
        let left = (most - self.piece.len()) as u64;
        self.inner.by_ref().take(left).read_to_end(&mut self.piece)?;
        let is_last = self.piece.len() < most;
        if !is_last {
            self.ahead = self.piece.pop();
        }
        let is_first = self.pieces.next == 0;
        let nonce = self.pieces.nonce(is_last);
        let opened = self
            .pieces
            .key
            .open_in_place(nonce, Aad::empty(), &mut self.piece);
        let bytes = opened.map_err(|_| damaged("it was cut off, or changed"))?.len();
        if bytes == 0 && !is_first {
            return Err(damaged("it was cut off, or changed"));
        }
        self.piece.truncate(bytes);
        self.was_last = is_last;
        Ok(())
    }
}

impl<R: BufRead> Read for Opened<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.piece.len() && !self.was_last && !into.is_empty() {
            self.next_piece()?;
        }
        let n = into.len().min(self.piece.len() - self.taken);
        into[..n].copy_from_slice(&self.piece[self.taken..self.taken + n]);
        self.taken += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase() -> Passphrase {
        Passphrase::to_seal("correct horse battery").unwrap()
    }

    fn sealed(plain: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut sealing = Sealing::new(&mut bytes, &passphrase(), Path::new("a")).unwrap();
        sealing.write_all(plain).unwrap();
        sealing.finish().unwrap();
        bytes
    }

    fn opened(bytes: &[u8], passphrase: &Passphrase) -> Result<Vec<u8>, ArchiveError> {
        let mut plain = Vec::new();
        let mut opened = Opened::new(bytes, passphrase)?;
        opened
            .read_to_end(&mut plain)
            .map_err(ArchiveError::NotAnArchive)?;
        Ok(plain)
    }

    #[test]
    fn what_goes_in_comes_out_whatever_its_length() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let plain: Vec<u8> = (0..length).map(|n| n as u8).collect();
            assert!(
                opened(&sealed(&plain), &passphrase()).unwrap() == plain,
                "{length}"
            );
        }
    }

    #[test]
    fn another_passphrase_is_told_as_such() {
        let refused = opened(&sealed(b"x"), &Passphrase::new("correct horse battery ")).unwrap_err();
        assert!(matches!(refused, ArchiveError::WrongPassphrase), "{refused}");
        let refused = Passphrase::to_seal("short").unwrap_err();
        assert!(refused.to_string().contains("12 characters"), "{refused}");
    }

    /// Made by `age -p` 1.1.1.
    const BY_AGE: &str = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNjcnlwdCBmZVgvQUZmaEx2M1FtRmVkYnROajhnIDE4CldhNUg4NThPVTlWcFAvTklMMDRjcEFsY1\
        dSU3VHV3BvdlVJcVhxY1FET3MKLS0tIG9nVnNOOEJNYjY0eFc2YWZUVEcwYU9wMTh6WEt5WUVaTng1ck8vd3BnSUkKP2/gs6pOYmq6QMSgipMg\
        diyU61SZVNvkjQYbXsdGs/bg1AUPEkt9CbgNb3b/";

    #[test]
    fn what_age_has_encrypted_is_read() {
        let bytes = base64::engine::general_purpose::STANDARD.decode(BY_AGE).unwrap();
        assert_eq!(opened(&bytes, &passphrase()).unwrap(), b"by age itself");
    }

    /// Each piece changed, taken out, or the file cut where a piece ends.
    #[test]
    fn what_was_changed_or_cut_off_is_noticed() {
        let plain = vec![7; 2 * PIECE + 9];
        let good = sealed(&plain);
        let payload = good.len() - (2 * (PIECE + TAG) + 9 + TAG);
        let piece = |n: usize| payload + n * (PIECE + TAG);
        let cut = [piece(0), piece(1), piece(2), good.len() - 1].map(|end| good[..end].to_vec());
        let mut bad: Vec<Vec<u8>> = cut.into();
        for at in [piece(0), piece(1), good.len() - 1, payload - 1] {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            bad.push(bytes);
        }
        bad.push([&good[..piece(0)], &good[piece(1)..]].concat());
        bad.push([&good[..], b"more"].concat());
        for (n, bytes) in bad.into_iter().enumerate() {
            let refused = opened(&bytes, &passphrase());
            assert!(matches!(refused, Err(ArchiveError::NotAnArchive(_))), "{n}");
        }
    }

    /// The header is bounded, and so is the work that it may ask for: refused before any of it is done.
    #[test]
    fn a_hostile_header_costs_nothing() {
        let good = sealed(b"x");
        let header = |from: &str, to: &str| {
            let text = String::from_utf8_lossy(&good).replacen(from, to, 1);
            text.into_bytes()
        };
        let began = std::time::Instant::now();
        for work in [" 19\n", " 40\n", " 63\n"] {
            let refused = opened(&header(" 16\n", work), &passphrase()).unwrap_err();
            assert!(matches!(refused, ArchiveError::Work(_)), "{work}: {refused}");
        }
        for (from, to) in [
            (" 16\n", " 016\n"),
            (" 16\n", " -1\n"),
            (" 16\n", " 300\n"),
            ("-> scrypt ", "-> X25519 "),
            ("-> scrypt ", "-> scrypt AAAA "),
            ("---", "--"),
        ] {
            let refused = opened(&header(from, to), &passphrase()).unwrap_err();
            assert!(
                matches!(refused, ArchiveError::NotAnArchive(_)),
                "{to}: {refused}"
            );
        }
        let endless = [MARK, &b"-> scrypt "[..], &[b'a'; 1 << 20]].concat();
        assert!(opened(&endless, &passphrase()).is_err());
        assert!(began.elapsed().as_secs() < 1, "{:?}", began.elapsed());
    }
}
