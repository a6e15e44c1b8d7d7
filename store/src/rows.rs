//! Rows of the store on disk: keys, values, and the parts of a body that is longer than a row may be.
//!
//! A key is one byte for the table, then numbers, big-endian:
//!
//! | key | body |
//! |---|---|
//! | `s` session | its record, with its will |
//! | `f` session SHA-256 of the text | the subscription |
//! | `q` session lane sequence | a page of queue entries, by the number it began with |
//! | `a` session | its note |
//! | `i` session packet | nothing: the identifier is taken |
//! | `r` message | the retained message |
//! | `d` message | until when it is held back, and the message |
//! | `n` zero | the first number that no session had |
//! | `c` key part | a further part of the body of `key` |
//! | `x` name | what concerns the store as a whole |
//!
//! A value is a version byte, in a first part the number of further parts, the data, and a CRC-32 of the key and of all that.
//!
//! Always true: no value is longer than [`ROW`], for sled keeps longer ones in files that it never syncs; any bytes at all decode to a row or
//! to an error, never to a panic.

use crate::lanes::PageKey;
use bytes::Bytes;
use headgate_model::store::{SessionRecord, StoredMessage, StoredWill};
use headgate_model::{
    ClientId, Message, Properties, Qos, RetainHandling, SessionId, Share, Subscription, SubscriptionOptions,
    Topic, TopicFilter, WallTime,
};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// The longest value.
pub(crate) const ROW: usize = 4096;

/// Version of every row's form.
const VERSION: u8 = 1;
const CRC: usize = 4;
const FIRST: usize = ROW - 1 - 4 - CRC;
const FURTHER: usize = ROW - 1 - CRC;

pub(crate) const SESSION: u8 = b's';
pub(crate) const SUBSCRIPTION: u8 = b'f';
pub(crate) const QUEUED: u8 = b'q';
pub(crate) const NOTE: u8 = b'a';
pub(crate) const RECEIVED: u8 = b'i';
pub(crate) const RETAINED: u8 = b'r';
pub(crate) const DELAYED: u8 = b'd';
pub(crate) const NUMBERS: u8 = b'n';
pub(crate) const PART: u8 = b'c';
/// Version of the whole store's form.
pub(crate) const FORMAT_KEY: &[u8] = b"xformat";
/// How far the tables are.
pub(crate) const CHECKPOINT_KEY: &[u8] = b"xcheckpoint";

pub(crate) type Key = Vec<u8>;

/// Why a row cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RowError {
    #[error("its checksum is wrong")]
    Checksum,
    #[error("its version {0} is not known")]
    Version(u8),
    #[error("it ends too early")]
    Short,
    #[error("it does not end where it should")]
    Long,
    #[error("its {0} cannot be")]
    Field(&'static str),
    #[error("its key cannot be")]
    Key,
    #[error("part {0} of its body is missing")]
    Half(u32),
    #[error("its session is missing")]
    NoSession,
}

/// The key of a table's row that is named by a number.
pub(crate) fn key(table: u8, id: u64) -> Key {
    [&[table][..], &id.to_be_bytes()].concat()
}

/// The key of a row that belongs to a session.
pub(crate) fn session_key(table: u8, session: SessionId, rest: &[u8]) -> Key {
    [&[table][..], &session.0.to_be_bytes(), rest].concat()
}

/// The key of a subscription. Its text may be 64 KiB long, its hash is not.
pub(crate) fn subscription_key(session: SessionId, text: &str) -> Key {
    session_key(SUBSCRIPTION, session, &Sha256::digest(text))
}

/// The key of a received packet identifier.
pub(crate) fn received_key(session: SessionId, packet: u16) -> Key {
    session_key(RECEIVED, session, &packet.to_be_bytes())
}

/// Which page a row is.
pub(crate) fn page_of(key: &[u8]) -> Result<PageKey, RowError> {
    let (session, _) = numbers(key)?;
    let first = key.last_chunk().ok_or(RowError::Key)?;
    Ok(PageKey {
        session,
        lane: key[9],
        first: u64::from_be_bytes(*first),
    })
}

/// Whether it is a row of a session, whose number is its first.
pub(crate) fn belongs_to_session(key: &[u8]) -> bool {
    matches!(
        key.first(),
        Some(&(SESSION | NOTE | SUBSCRIPTION | QUEUED | RECEIVED))
    )
}

/// The key of the `n`th further part of a row's body, from 1.
pub(crate) fn part_key(key: &[u8], n: u32) -> Key {
    [&[PART][..], key, &n.to_be_bytes()].concat()
}

/// The numbers in a key: the first, and the second if the table has one.
pub(crate) fn numbers(key: &[u8]) -> Result<(u64, u64), RowError> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b));
    let second = match key.first() {
        Some(&(SESSION | NOTE | RETAINED | DELAYED | NUMBERS)) => 0,
        Some(&QUEUED) => 9,
        Some(&RECEIVED) => 2,
        Some(&SUBSCRIPTION) => 32,
        _ => return Err(RowError::Key),
    };
    if key.len() != 9 + second {
        return Err(RowError::Key);
    }
    Ok((number(&key[1..9]), number(&key[9..9 + second.min(8)])))
}

/// What a row is, in words.
pub(crate) fn name(key: &[u8]) -> String {
    let what = match key.first() {
        Some(&SESSION) => "session",
        Some(&NOTE) => "the note of session",
        Some(&SUBSCRIPTION) => "a subscription of session",
        Some(&QUEUED) => "a part of the queue of session",
        Some(&RECEIVED) => "a received packet identifier of session",
        Some(&RETAINED) => "retained message",
        Some(&DELAYED) => "delayed message",
        Some(&NUMBERS) => "numbers of sessions",
        _ => "a row",
    };
    match numbers(key) {
        Ok((n, _)) => format!("{what} {n}"),
        Err(_) => format!("{what} with key {}", key.escape_ascii()),
    }
}

/// The rows of a body: under its own key, and under those of its further parts.
pub(crate) fn cut(key: &[u8], body: &[u8]) -> Vec<(Key, Vec<u8>)> {
    let (first, rest) = body.split_at(body.len().min(FIRST));
    let further = rest.chunks(FURTHER);
    let count = u32::try_from(further.len()).expect("a body is at most a packet long");
    let mut rows = vec![(key.to_vec(), seal(key, &[&count.to_be_bytes(), first]))];
    for (part, n) in further.zip(1..) {
        let key = part_key(key, n);
        let value = seal(&key, &[part]);
        rows.push((key, value));
    }
    rows
}

/// How many further parts the body has whose first row this is; none if it cannot be read.
pub(crate) fn further_parts(key: &[u8], value: &[u8]) -> u32 {
    let data = unseal(key, value).ok();
    data.and_then(|data| data.first_chunk())
        .map_or(0, |n| u32::from_be_bytes(*n))
}

/// The body whose first row this is. `part` looks up further rows.
pub(crate) fn join(
    key: &[u8],
    value: &[u8],
    part: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Result<Vec<u8>, RowError> {
    let (further, first) = unseal(key, value)?.split_first_chunk().ok_or(RowError::Short)?;
    let mut body = first.to_vec();
    for n in 1..=u32::from_be_bytes(*further) {
        let key = part_key(key, n);
        let value = part(&key).ok_or(RowError::Half(n))?;
        body.extend_from_slice(unseal(&key, &value)?);
    }
    Ok(body)
}

fn seal(key: &[u8], data: &[&[u8]]) -> Vec<u8> {
    let mut value = vec![VERSION];
    data.iter().for_each(|d| value.extend_from_slice(d));
    let sum = checksum(key, &value);
    value.extend_from_slice(&sum.to_be_bytes());
    value
}

fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], RowError> {
    let (value, sum) = value.split_last_chunk::<CRC>().ok_or(RowError::Short)?;
    if checksum(key, value) != u32::from_be_bytes(*sum) {
        return Err(RowError::Checksum);
    }
    match value.split_first() {
        Some((&VERSION, data)) => Ok(data),
        Some((version, _)) => Err(RowError::Version(*version)),
        None => Err(RowError::Short),
    }
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(key);
    sum.update(value);
    sum.finalize()
}

/// Writes a body.
#[derive(Default)]
pub(crate) struct Writer(pub Vec<u8>);

impl Writer {
    pub(crate) fn byte(&mut self, n: u8) -> &mut Self {
        self.0.push(n);
        self
    }

    pub(crate) fn number(&mut self, n: u64) -> &mut Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let len = u32::try_from(bytes.len()).expect("a field is at most a packet long");
        self.0.extend_from_slice(&len.to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn maybe<T>(
        &mut self,
        value: Option<T>,
        write: impl FnOnce(&mut Self, T) -> &mut Self,
    ) -> &mut Self {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
        self
    }

    fn duration(&mut self, time: Duration) -> &mut Self {
        self.number(time.as_secs()).number(time.subsec_nanos().into())
    }

    fn time(&mut self, time: Option<WallTime>) -> &mut Self {
        self.maybe(time, |w, time| w.number(time.0))
    }

    fn blob(&mut self, blob: &Option<Bytes>) -> &mut Self {
        self.maybe(blob.as_ref(), |w, blob| w.bytes(blob))
    }

    fn message(&mut self, message: &Message) -> &mut Self {
        self.bytes(message.topic.as_bytes())
            .bytes(&message.payload)
            .byte(message.qos as u8)
            .byte(message.retain.into())
            .maybe(message.publisher, |w, id| w.number(id.0))
            .maybe(message.properties.as_deref(), Self::properties)
    }

    fn properties(&mut self, properties: &Properties) -> &mut Self {
        self.maybe(properties.payload_is_utf8, |w, utf8| w.byte(utf8.into()))
            .blob(&properties.content_type)
            .blob(&properties.response_topic)
            .blob(&properties.correlation_data)
            .number(properties.user_properties.len() as u64);
        for (name, value) in &properties.user_properties {
            self.bytes(name).bytes(value);
        }
        self
    }
}

/// Reads a body.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], RowError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(RowError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, RowError> {
        Ok(self.take(1)?[0])
    }

    fn flag(&mut self) -> Result<bool, RowError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RowError::Field("flag")),
        }
    }

    pub(crate) fn number(&mut self) -> Result<u64, RowError> {
        Ok(u64::from_be_bytes(
            self.take(8)?.try_into().expect("eight bytes were taken"),
        ))
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, RowError> {
        let len = u32::from_be_bytes(self.take(4)?.try_into().expect("four bytes were taken"));
        Ok(Bytes::copy_from_slice(self.take(len as usize)?))
    }

    pub(crate) fn text(&mut self) -> Result<Arc<str>, RowError> {
        let bytes = self.bytes()?;
        Ok(std::str::from_utf8(&bytes)
            .map_err(|_| RowError::Field("text"))?
            .into())
    }

    pub(crate) fn maybe<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, RowError>,
    ) -> Result<Option<T>, RowError> {
        Ok(if self.flag()? { Some(read(self)?) } else { None })
    }

    fn duration(&mut self) -> Result<Duration, RowError> {
        let (secs, nanos) = (self.number()?, self.number()?);
        match u32::try_from(nanos) {
            Ok(nanos) if nanos < 1_000_000_000 => Ok(Duration::new(secs, nanos)),
            _ => Err(RowError::Field("duration")),
        }
    }

    fn time(&mut self) -> Result<Option<WallTime>, RowError> {
        self.maybe(|r| r.number().map(WallTime))
    }

    fn qos(&mut self) -> Result<Qos, RowError> {
        Qos::from_u8(self.byte()?).ok_or(RowError::Field("QoS"))
    }

    fn message(&mut self) -> Result<Message, RowError> {
        Ok(Message {
            topic: Topic::parse(self.bytes()?).map_err(|_| RowError::Field("topic"))?,
            payload: self.bytes()?,
            qos: self.qos()?,
            retain: self.flag()?,
            expires_at: None,
            publisher: self.maybe(|r| r.number().map(SessionId))?,
            charge: Default::default(),
            properties: self.maybe(|r| r.properties().map(Box::new))?,
        })
    }

    fn properties(&mut self) -> Result<Properties, RowError> {
        Ok(Properties {
            payload_is_utf8: self.maybe(Self::flag)?,
            content_type: self.maybe(Self::bytes)?,
            response_topic: self.maybe(Self::bytes)?,
            correlation_data: self.maybe(Self::bytes)?,
            user_properties: (0..self.number()?)
                .map(|_| Ok((self.bytes()?, self.bytes()?)))
                .collect::<Result<_, _>>()?,
        })
    }

    fn share(&mut self) -> Result<Option<Share>, RowError> {
        match self.byte()? {
            0 => Ok(None),
            1 => Ok(Some(Share::Queue)),
            2 => Ok(Some(Share::Group(self.bytes()?))),
            _ => Err(RowError::Field("share")),
        }
    }
}

/// Reads a whole body.
fn whole<T>(body: &[u8], read: impl FnOnce(&mut Reader<'_>) -> Result<T, RowError>) -> Result<T, RowError> {
    let mut reader = Reader(body);
    let value = read(&mut reader)?;
    if reader.0.is_empty() {
        Ok(value)
    } else {
        Err(RowError::Long)
    }
}

pub(crate) fn write_number(n: u64) -> Vec<u8> {
    n.to_be_bytes().to_vec()
}

pub(crate) fn read_number(body: &[u8]) -> Result<u64, RowError> {
    whole(body, |r| r.number())
}

/// A delayed message: until when, then the message.
pub(crate) fn read_delayed(body: &[u8]) -> Result<(WallTime, StoredMessage), RowError> {
    let (due, message) = body.split_at_checked(8).ok_or(RowError::Short)?;
    Ok((WallTime(read_number(due)?), read_message(message)?))
}

pub(crate) fn read_nothing(body: &[u8]) -> Result<(), RowError> {
    whole(body, |_| Ok(()))
}

pub(crate) fn write_message(stored: &StoredMessage) -> Vec<u8> {
    let mut w = Writer::default();
    w.time(stored.expires).message(&stored.message);
    w.0
}

pub(crate) fn read_message(body: &[u8]) -> Result<StoredMessage, RowError> {
    whole(body, |r| {
        Ok(StoredMessage {
            expires: r.time()?,
            message: Arc::new(r.message()?),
        })
    })
}

pub(crate) fn write_session(record: &SessionRecord) -> Vec<u8> {
    let mut w = Writer::default();
    w.bytes(record.client_id.as_str().as_bytes())
        .maybe(record.username.as_ref(), |w, name| w.bytes(name.as_bytes()))
        .duration(record.expiry)
        .time(record.ends)
        .maybe(record.unsent_from, Writer::number)
        .maybe(record.will.as_ref(), |w, will| {
            w.message(&will.message).duration(will.delay);
            w.maybe(will.message_expiry, |w, expiry| w.duration(expiry))
                .time(will.due)
        });
    // Formats before 3 end here.
    if record.wants_expired {
        w.byte(1);
    }
    w.0
}

pub(crate) fn read_session(body: &[u8]) -> Result<SessionRecord, RowError> {
    let will = |r: &mut Reader<'_>| {
        Ok(StoredWill {
            message: Arc::new(r.message()?),
            delay: r.duration()?,
            message_expiry: r.maybe(Reader::duration)?,
            due: r.time()?,
        })
    };
    whole(body, |r| {
        Ok(SessionRecord {
            client_id: ClientId::from(&*r.text()?),
            username: r.maybe(Reader::text)?,
            expiry: r.duration()?,
            ends: r.time()?,
            unsent_from: r.maybe(Reader::number)?,
            will: r.maybe(will)?,
            wants_expired: !r.0.is_empty() && r.flag()?,
        })
    })
}

/// Set in the byte of retain handling when the identifier tells a subscription apart.
const BY_IDENTIFIER: u8 = 4;

pub(crate) fn write_subscription(subscription: &Subscription) -> Vec<u8> {
    let options = subscription.options;
    let by_identifier = if options.by_identifier { BY_IDENTIFIER } else { 0 };
    let mut w = Writer::default();
    w.bytes(subscription.filter.as_bytes());
    match &subscription.share {
        None => w.byte(0),
        Some(Share::Queue) => w.byte(1),
        Some(Share::Group(group)) => w.byte(2).bytes(group),
    };
    w.byte(subscription.local.into())
        .byte(subscription.exclusive.into())
        .byte(options.qos as u8)
        .byte(options.no_local.into())
        .byte(options.retain_as_published.into())
        .byte(options.retain_handling as u8 | by_identifier)
        .number(options.identifier.into());
    w.0
}

pub(crate) fn read_subscription(body: &[u8]) -> Result<Subscription, RowError> {
    let retain_handling = |n: u8| match n & !BY_IDENTIFIER {
        0 => Ok((RetainHandling::Send, n != 0)),
        1 => Ok((RetainHandling::SendIfNew, n != 1)),
        2 => Ok((RetainHandling::DoNotSend, n != 2)),
        _ => Err(RowError::Field("retain handling")),
    };
    whole(body, |r| {
        let filter = TopicFilter::parse(r.bytes()?).map_err(|_| RowError::Field("filter"))?;
        let (share, local, exclusive) = (r.share()?, r.flag()?, r.flag()?);
        let (qos, no_local, retain_as_published) = (r.qos()?, r.flag()?, r.flag()?);
        let (retain_handling, by_identifier) = retain_handling(r.byte()?)?;
        let options = SubscriptionOptions {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
            identifier: identifier(r.number()?)?,
            by_identifier,
        };
        Ok(Subscription {
            filter,
            share,
            local,
            exclusive,
            options,
        })
    })
}

fn identifier(n: u64) -> Result<u32, RowError> {
    u32::try_from(n).map_err(|_| RowError::Field("subscription identifier"))
}
