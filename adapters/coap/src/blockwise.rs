//! Bodies that do not fit into one message: put together from blocks that come, and cut into blocks that go. RFC 7959
//!
//! Always true: what is kept has a bound in bytes, whatever a peer says a body will have; the oldest gives way.

use bytes::{Bytes, BytesMut};
use headgate_coap_codec::{Block, BlockError, Code, Message, Options, Token, number};
use headgate_model::datagram::Address;
use headgate_model::{Instant, SessionKey};
use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// So long a body is kept that nothing more is heard of. RFC 7959 §2.4, §2.5: EXCHANGE_LIFETIME
const PATIENCE: Duration = Duration::from_secs(247);
/// What keeping one takes beside its bytes and its name.
const EACH: usize = 192;

/// Whose body it is, and of which request: a number made of method and all options that make a difference. RFC 7959 §2.5, RFC 9175 §3.3
type Name<A> = (A, u128);

/// A number for the part of a request that its blocks have in common. Who finds two requests with the same mixes up bodies of his own.
fn name_of(message: &Message) -> u128 {
    let mut halves = [DefaultHasher::new(), DefaultHasher::new()];
    for (n, half) in halves.iter_mut().enumerate() {
        (n, message.code.0).hash(half);
        for (option, value) in message.options.iter() {
            let differs = matches!(
                option,
                number::BLOCK1
                    | number::BLOCK2
                    | number::SIZE1
                    | number::SIZE2
                    | number::OBSERVE
                    | number::ECHO
            );
            if !differs {
                (option, &value[..]).hash(half);
            }
        }
    }
    let [high, low] = halves.map(|half| u128::from(half.finish()));
    high << 64 | low
}

/// The option of this number, over a connection (`bert`) or not.
fn block_of(options: &Options, number: u16, bert: bool) -> Option<Result<Block, BlockError>> {
    if bert {
        Block::of_stream(options, number)
    } else {
        Block::of(options, number)
    }
}

/// What is moved on in time is moved at most so often.
const TOUCH: Duration = Duration::from_secs(8);

/// Things with a name and a time, with a bound in bytes.
#[derive(Debug)]
struct Kept<A, V> {
    by_name: HashMap<Name<A>, Place<V>>,
    /// In the order in which they were put there or touched, with those that are gone among them.
    order: VecDeque<(Instant, u64, Name<A>)>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Place<V> {
    /// Its last entry in the order has it.
    number: u64,
    touched: Instant,
    bytes: usize,
    value: V,
}

impl<A: Address, V> Kept<A, V> {
    fn new() -> Self {
        Self {
            by_name: HashMap::new(),
            order: VecDeque::new(),
            next: 0,
            bytes: 0,
        }
    }

    fn put(&mut self, name: Name<A>, bytes: usize, value: V, now: Instant) {
        self.take(&name);
        self.next += 1;
        let bytes = EACH + bytes;
        self.bytes += bytes;
        self.order.push_back((now + PATIENCE, self.next, name));
        self.compact();
        let place = Place {
            number: self.next,
            touched: now,
            bytes,
            value,
        };
        self.by_name.insert(name, place);
    }

    /// Somebody has use for it: it is kept for as long as a new one.
    fn touch(&mut self, name: &Name<A>, now: Instant) -> Option<&mut V> {
        let place = self.by_name.get_mut(name)?;
        if place.touched + TOUCH <= now {
            self.next += 1;
            (place.number, place.touched) = (self.next, now);
            self.order.push_back((now + PATIENCE, self.next, *name));
        }
        self.compact();
        self.by_name.get_mut(name).map(|place| &mut place.value)
    }

    /// Those that are gone are never more than those that are there, and a few.
    fn compact(&mut self) {
        if self.order.len() > 2 * self.by_name.len() + 64 {
            let by_name = &self.by_name;
            self.order
                .retain(|(_, number, name)| by_name.get(name).is_some_and(|kept| kept.number == *number));
        }
    }

    fn take(&mut self, name: &Name<A>) -> Option<V> {
        let place = self.by_name.remove(name)?;
        self.bytes -= place.bytes;
        Some(place.value)
    }

    /// Lets go of what is over, and of the oldest while there is too much. How many of these.
    fn tidy(&mut self, max_bytes: usize, now: Instant) -> u32 {
        let mut dropped = 0;
        while let Some((until, number, name)) = self.order.front() {
            let is_gone = self.by_name.get(name).is_none_or(|kept| kept.number != *number);
            let is_over = *until <= now;
            if !is_gone && !is_over && self.bytes <= max_bytes {
                break;
            }
            dropped += u32::from(!is_gone && !is_over);
            let (.., name) = self.order.pop_front().expect("just looked at");
            if !is_gone {
                self.take(&name);
            }
        }
        dropped
    }
}

/// Bodies that come in blocks. RFC 7959 §2.5
#[derive(Debug)]
pub struct Uploads<A> {
    kept: Kept<A, BytesMut>,
    /// Bytes that one body may have.
    pub max_body_bytes: usize,
    /// Bytes that all together may have.
    pub max_bytes: usize,
    /// Whether messages may have many blocks, as over a connection. RFC 8323 §6
    pub bert: bool,
    /// Bodies that were given up for others.
    pub dropped: u32,
}

impl<A: Address> Uploads<A> {
    /// None yet.
    pub fn new(max_body_bytes: usize, max_bytes: usize) -> Self {
        Self {
            kept: Kept::new(),
            max_body_bytes,
            max_bytes,
            bert: false,
            dropped: 0,
        }
    }

    /// Bytes that are kept.
    pub fn held(&self) -> usize {
        self.kept.bytes
    }

    /// A request came. `Ok` when its body is whole, and is its payload from now on; otherwise what is to be answered.
    pub fn take(&mut self, from: A, message: &mut Message, now: Instant) -> Result<(), Message> {
        self.dropped += self.kept.tidy(self.max_bytes, now);
        let block = match block_of(&message.options, number::BLOCK1, self.bert) {
            None => return self.within_limit(message, message.payload.len(), None),
            Some(Ok(block)) => block,
            Some(Err(error)) => return Err(answer(Code::BAD_REQUEST, message, &error.to_string())),
        };
        let said = message.options.uint(number::SIZE1).unwrap_or(0) as usize;
        let so_far = block.offset().saturating_add(message.payload.len());
        self.within_limit(message, said.max(so_far), Some(block))?;
        if block.more && !block.is_filled_by(message.payload.len()) {
            return Err(answer(
                Code::BAD_REQUEST,
                message,
                "a block that is not the last has another size than it says",
            ));
        }
        if block.number == 0 && !block.more {
            return Ok(());
        }
        let name = (from, name_of(message));
        let mut body = match block.number {
            0 => BytesMut::new(),
            _ => self.kept.take(&name).unwrap_or_default(),
        };
        if body.len() != block.offset() {
            return Err(answer(
                Code::REQUEST_ENTITY_INCOMPLETE,
                message,
                "a block before it is missing",
            ));
        }
        body.extend_from_slice(&message.payload);
        if !block.more {
            message.payload = body.freeze();
            return Ok(());
        }
        self.kept.put(name, body.capacity(), body, now);
        self.dropped += self.kept.tidy(self.max_bytes, now);
        let mut go_on = Message::of_stream(Code::CONTINUE, message.token);
        block.put(&mut go_on.options, number::BLOCK1);
        Err(go_on)
    }

    /// RFC 7959 §2.9.3
    fn within_limit(&self, message: &Message, bytes: usize, block: Option<Block>) -> Result<(), Message> {
        if bytes <= self.max_body_bytes {
            return Ok(());
        }
        let mut refusal = Message::of_stream(Code::REQUEST_ENTITY_TOO_LARGE, message.token);
        let max = u32::try_from(self.max_body_bytes).unwrap_or(u32::MAX);
        refusal.options.push_uint(number::SIZE1, max);
        if let Some(block) = block {
            let block = Block { more: false, ..block };
            block.put(&mut refusal.options, number::BLOCK1);
        }
        Err(refusal)
    }
}

/// Says on which block an answer is. RFC 7959 §2.3: the final response has the option of the last request, too.
pub fn echo_block1(request: &Message, response: &mut Message) {
    if let Some(Ok(block)) = Block::of_stream(&request.options, number::BLOCK1)
        && !response.options.has(number::BLOCK1)
    {
        Block { more: false, ..block }.put(&mut response.options, number::BLOCK1);
    }
}

/// An answer that says in words what is wrong. RFC 7252 §5.5.2
pub fn answer(code: Code, request: &Message, diagnostic: &str) -> Message {
    Message {
        payload: Bytes::copy_from_slice(diagnostic.as_bytes()),
        ..Message::of_stream(code, request.token)
    }
}

/// A body that is fetched in blocks.
#[derive(Debug)]
struct Body {
    response: Message,
    /// The observation that it is a notification of.
    of: Option<SessionKey>,
    /// Its last block was fetched.
    is_fetched: bool,
}

/// A block of a body, as it was asked for.
#[derive(Debug)]
pub struct Part {
    /// The answer.
    pub answer: Message,
    /// The observation that the body is a notification of.
    pub of: Option<SessionKey>,
    /// Whether it is the last block.
    pub is_last: bool,
}

/// Bodies that are fetched in blocks. RFC 7959 §2.4
#[derive(Debug)]
pub struct Downloads<A> {
    kept: Kept<A, Body>,
    /// Bodies of messages that are held, and counted, elsewhere, until they are told to end.
    held: HashMap<Name<A>, Body>,
    /// What keeping these takes beside their bytes.
    held_bytes: usize,
    /// Bytes that all together may have.
    pub max_bytes: usize,
    /// Whether peers may ask for many blocks at once, as over a connection. They get one: its number means the same. RFC 8323 §6
    pub bert: bool,
    /// Bodies that were given up for others.
    pub dropped: u32,
}

impl<A: Address> Downloads<A> {
    /// None yet.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            kept: Kept::new(),
            held: HashMap::new(),
            held_bytes: 0,
            max_bytes,
            bert: false,
            dropped: 0,
        }
    }

    /// Bytes that are kept.
    pub fn held(&self) -> usize {
        self.kept.bytes + self.held_bytes
    }

    /// The block that a request asks for, if it is one of a body that is here; an answer, too, if it can be none.
    pub fn next(&mut self, from: A, request: &Message, now: Instant) -> Option<Message> {
        self.fetch(from, request, now).map(|part| part.answer)
    }

    /// The same, with whose body it is.
    pub fn fetch(&mut self, from: A, request: &Message, now: Instant) -> Option<Part> {
        let block = match block_of(&request.options, number::BLOCK2, self.bert)? {
            Ok(block) => block,
            Err(error) => {
                return Some(Part {
                    answer: answer(Code::BAD_REQUEST, request, &error.to_string()),
                    of: None,
                    is_last: false,
                });
            }
        };
        if block.number == 0 {
            return None;
        }
        self.dropped += self.kept.tidy(self.max_bytes, now);
        let name = (from, name_of(request));
        let body = match self.held.get_mut(&name) {
            Some(held) => held,
            None => self.kept.touch(&name, now)?,
        };
        let (len, from) = (body.response.payload.len(), block.offset());
        let is_last = from < len && from + block.size() >= len;
        body.is_fetched |= is_last;
        Some(Part {
            answer: cut(&body.response, block, request.token),
            of: body.of,
            is_last,
        })
    }

    /// Cuts a response to what its request asks for, or to `szx` where it asks for nothing or more, and keeps the rest.
    pub fn cut(&mut self, to: A, request: &Message, response: Message, szx: u8, now: Instant) -> Message {
        self.cut_of(to, request, response, szx, (None, false), now)
    }

    fn cut_of(
        &mut self,
        to: A,
        request: &Message,
        response: Message,
        szx: u8,
        (of, is_held): (Option<SessionKey>, bool),
        now: Instant,
    ) -> Message {
        let asked = block_of(&request.options, number::BLOCK2, self.bert).and_then(Result::ok);
        let asked = asked.unwrap_or(Block {
            number: 0,
            more: false,
            szx,
        });
        // A smaller size than was asked for changes what the number means, so that is for the first block only.
        let block = match asked.number {
            0 => Block {
                szx: asked.szx.min(szx),
                ..asked
            },
            _ => asked,
        };
        if block.number == 0 && response.payload.len() <= block.size() {
            return response;
        }
        let first = cut(&response, block, request.token);
        let body = Body {
            response,
            of,
            is_fetched: false,
        };
        let name = (to, name_of(request));
        self.take(&name);
        match is_held {
            true => self.hold(name, body),
            false => self.keep(name, body, now),
        }
        first
    }

    /// Keeps what a notification of an observation said that was too long for one message, and cuts its first block: the peer fetches the rest by the request `as_if`. RFC 7959 §2.6
    ///
    /// `is_held`: the message is held until [`Self::end_notification`], so that its bytes do not count here, and no other takes its place. With whether it takes
    /// the place of an earlier one that was not fetched to its end.
    pub fn cut_notification(
        &mut self,
        to: A,
        as_if: &Message,
        response: Message,
        szx: u8,
        of: SessionKey,
        is_held: bool,
        now: Instant,
    ) -> (Message, bool) {
        let mut plain = as_if.clone();
        plain.options.remove(number::BLOCK2);
        let name = (to, name_of(&plain));
        let kept = self.kept.by_name.get(&name).map(|kept| &kept.value);
        let before = self.held.get(&name).or(kept);
        let supersedes = before.is_some_and(|before| before.of == Some(of) && !before.is_fetched);
        let first = self.cut_of(to, &plain, response, szx, (Some(of), is_held), now);
        (first, supersedes)
    }

    /// A message that is held, and was to be fetched from there by that request, is fetched in another way from now on.
    pub fn move_notification(&mut self, from: (A, &Message), to: (A, &Message), of: SessionKey) {
        if let Some(body) = self.take_held(from.0, from.1, of) {
            self.hold((to.0, name_of(to.1)), body);
        }
    }

    /// A message is not held elsewhere any more: its body counts here, for as long as the client may ask for a block of it again.
    pub fn end_notification(&mut self, to: A, as_if: &Message, of: SessionKey, now: Instant) {
        if let Some(body) = self.take_held(to, as_if, of) {
            self.keep((to, name_of(as_if)), body, now);
        }
    }

    /// A message is not held any more, and nobody is to fetch it.
    pub fn forget_notification(&mut self, to: A, as_if: &Message, of: SessionKey) {
        self.take_held(to, as_if, of);
    }

    fn take_held(&mut self, to: A, as_if: &Message, of: SessionKey) -> Option<Body> {
        let name = (to, name_of(as_if));
        self.held.get(&name).filter(|body| body.of == Some(of))?;
        self.take(&name)
    }

    fn take(&mut self, name: &Name<A>) -> Option<Body> {
        let Some(body) = self.held.remove(name) else {
            return self.kept.take(name);
        };
        self.held_bytes -= EACH;
        Some(body)
    }

    fn hold(&mut self, name: Name<A>, body: Body) {
        self.held_bytes += EACH;
        self.held.insert(name, body);
    }

    fn keep(&mut self, name: Name<A>, body: Body, now: Instant) {
        self.kept.put(name, body.response.payload.len(), body, now);
        self.dropped += self.kept.tidy(self.max_bytes, now);
    }
}

/// One block of a response; 4.02 if there is no such block.
pub fn cut(response: &Message, block: Block, token: Token) -> Message {
    let (body, from) = (&response.payload, block.offset());
    if from > 0 && from >= body.len() {
        let mut refused = Message::of_stream(Code::BAD_OPTION, token);
        refused.payload = Bytes::from_static(b"there is no such block");
        return refused;
    }
    let to = body.len().min(from + block.size());
    let mut part = Message {
        payload: body.slice(from..to),
        token,
        ..response.clone()
    };
    if from > 0 {
        part.options.remove(number::OBSERVE); // RFC 7959 §2.6
    } else {
        part.options
            .push_uint(number::SIZE2, u32::try_from(body.len()).unwrap_or(u32::MAX));
    }
    let more = to < body.len();
    let szx = block.szx.min(Block::MAX_SZX);
    Block { more, szx, ..block }.put(&mut part.options, number::BLOCK2);
    if !part.options.has(number::ETAG) {
        part.options.push(number::ETAG, etag(body));
    }
    part
}

/// A value that is another one for every other body. RFC 7252 §5.10.6
pub fn etag(body: &[u8]) -> Bytes {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    Bytes::copy_from_slice(&hasher.finish().to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant(0);

    fn token() -> Token {
        Token::new(b"t").unwrap()
    }

    fn put(block: Option<Block>, payload: Vec<u8>) -> Message {
        let mut message = Message::of_stream(Code::PUT, token());
        message.options.push(number::URI_PATH, "a");
        if let Some(block) = block {
            block.put(&mut message.options, number::BLOCK1);
        }
        message.payload = payload.into();
        message
    }

    fn block(number: u32, more: bool, szx: u8) -> Option<Block> {
        Some(Block { number, more, szx })
    }

    fn code(result: Result<(), Message>) -> Code {
        result.expect_err("an answer").code
    }

    /// RFC 7959 §3.2, figure 7: 2.31 for each block but the last. \[RFC7959-2.1-1\] \[RFC7959-2.3-3\]
    #[test]
    fn a_body_is_put_together_from_its_blocks() {
        let mut uploads = Uploads::new(200 << 10, 1 << 20);
        let body: Vec<u8> = (0..100 << 10).map(|n| (n / 7) as u8).collect();
        let blocks = body.chunks(1_024).count();
        for (n, part) in body.chunks(1_024).enumerate() {
            let mut message = put(block(n as u32, n + 1 < blocks, 6), part.to_vec());
            match uploads.take((), &mut message, NOW) {
                Ok(()) => assert_eq!((n + 1, &message.payload[..]), (blocks, &body[..])),
                Err(go_on) => {
                    assert_eq!(go_on.code, Code::CONTINUE);
                    assert!(!go_on.options.has(number::BLOCK2));
                    let echoed = Block::of(&go_on.options, number::BLOCK1).unwrap().unwrap();
                    assert_eq!((echoed.number, echoed.more), (n as u32, true));
                }
            }
        }
        assert_eq!(uploads.kept.bytes, 0);
    }

    /// §2.9.2: 4.08 when a block before it is missing; §2.9.3: 4.13, at once when Size1 says so; §2.2: no size 7; 4.00 for a short block in the middle.
    /// \[RFC7252-5.9.2.9-1\] \[RFC7959-2.2-2\] \[RFC7959-2.3-1\] \[RFC7959-2.5-2\] \[RFC7959-2.9.3-1\]
    #[test]
    fn what_cannot_be_put_together_is_refused() {
        let mut uploads = Uploads::new(4_096, 1 << 20);
        assert_eq!(
            code(uploads.take((), &mut put(block(1, true, 0), vec![0; 16]), NOW)),
            Code::REQUEST_ENTITY_INCOMPLETE
        );
        assert_eq!(
            code(uploads.take((), &mut put(block(0, true, 0), vec![0; 15]), NOW)),
            Code::BAD_REQUEST
        );
        assert_eq!(
            code(uploads.take((), &mut put(block(0, true, 0), vec![0; 16]), NOW)),
            Code::CONTINUE
        );
        assert_eq!(
            code(uploads.take((), &mut put(block(2, false, 0), vec![0; 16]), NOW)),
            Code::REQUEST_ENTITY_INCOMPLETE
        );
        let mut gigabyte = put(block(0, true, 6), vec![0; 1_024]);
        gigabyte.options.push_uint(number::SIZE1, 1 << 30);
        let refusal = uploads.take((), &mut gigabyte, NOW).unwrap_err();
        assert_eq!(
            (refusal.code, refusal.options.uint(number::SIZE1)),
            (Code::REQUEST_ENTITY_TOO_LARGE, Some(4_096))
        );
        let mut far = put(block(Block::MAX_NUMBER, false, 6), vec![0; 1]);
        assert_eq!(
            code(uploads.take((), &mut far, NOW)),
            Code::REQUEST_ENTITY_TOO_LARGE
        );
        let mut reserved = put(None, vec![0; 16]);
        reserved.options.push(number::BLOCK1, &[0x0F][..]);
        assert_eq!(code(uploads.take((), &mut reserved, NOW)), Code::BAD_REQUEST);
        assert_eq!(
            code(uploads.take((), &mut put(None, vec![0; 5_000]), NOW)),
            Code::REQUEST_ENTITY_TOO_LARGE
        );
    }

    /// RFC 8323 §6: over a connection a message may have many blocks of 1,024 bytes; the next number counts all of them. An answer in blocks has one in each.
    /// \[RFC8323-6-1\]
    #[test]
    fn a_connection_may_carry_many_blocks_in_a_message() {
        let mut uploads = Uploads::new(64 << 10, 1 << 20);
        uploads.bert = true;
        let mut first = put(block(0, true, Block::BERT), vec![1; 3 << 10]);
        assert_eq!(code(uploads.take((), &mut first, NOW)), Code::CONTINUE);
        let mut uneven = put(block(3, true, Block::BERT), vec![2; 1_500]);
        assert_eq!(code(uploads.take((), &mut uneven, NOW)), Code::BAD_REQUEST);
        let mut empty = put(block(3, true, Block::BERT), vec![]);
        assert_eq!(code(uploads.take((), &mut empty, NOW)), Code::BAD_REQUEST);
        let mut last = put(block(3, false, Block::BERT), vec![2; 1_500]);
        assert_eq!(uploads.take((), &mut last, NOW), Ok(()));
        assert_eq!((last.payload.len(), last.payload[3 << 10]), (4_572, 2));

        let mut downloads = Downloads::new(1 << 20);
        downloads.bert = true;
        let mut whole = Message::of_stream(Code::CONTENT, token());
        whole.payload = vec![3; 3_000].into();
        let asked = |number| get(block(number, false, Block::BERT));
        for (n, got) in [
            (0, Some(downloads.cut((), &asked(0), whole, 6, NOW))),
            (1, downloads.next((), &asked(1), NOW)),
            (2, downloads.next((), &asked(2), NOW)),
        ] {
            let got = got.expect("it is kept");
            let expected = Block {
                number: n,
                more: n < 2,
                szx: 6,
            };
            assert_eq!(Block::of(&got.options, number::BLOCK2), Some(Ok(expected)));
        }
    }

    /// Bodies of others, and with another Request-Tag (RFC 9175 §3.3), are others. The oldest gives way.
    /// \[RFC7959-7-1\] \[RFC7959-7.1-1\] \[RFC9175-3.3-1\]
    #[test]
    fn bodies_that_are_not_finished_have_a_bound() {
        let mut uploads: Uploads<core::net::SocketAddr> = Uploads::new(64 << 10, 100 << 10);
        let at = |n: u16| core::net::SocketAddr::from(([127, 0, 0, 1], n));
        for n in 0..200 {
            let mut first = put(block(0, true, 6), vec![0; 1_024]);
            assert_eq!(code(uploads.take(at(n), &mut first, NOW)), Code::CONTINUE);
        }
        assert!(uploads.kept.bytes <= 100 << 10 && uploads.dropped > 100);
        let mut second = put(block(1, false, 6), vec![0; 3]);
        second.options.push(number::REQUEST_TAG, "other");
        assert_eq!(
            code(uploads.take(at(199), &mut second, NOW)),
            Code::REQUEST_ENTITY_INCOMPLETE
        );
        let mut second = put(block(1, false, 6), vec![0; 3]);
        assert!(uploads.take(at(199), &mut second, NOW + PATIENCE / 2).is_ok());
        let mut late = put(block(1, false, 6), vec![0; 3]);
        assert_eq!(
            code(uploads.take(at(198), &mut late, NOW + PATIENCE)),
            Code::REQUEST_ENTITY_INCOMPLETE
        );
        assert_eq!((uploads.kept.bytes, uploads.kept.order.len()), (0, 0));
    }

    /// The first block again and again costs one place, whatever options it has.
    #[test]
    fn beginning_again_costs_nothing_more() {
        let mut uploads = Uploads::new(64 << 10, 1 << 20);
        for n in 0..10_000_u64 {
            let mut first = put(block(0, true, 0), vec![0; 16]);
            first.options.push(2_048, vec![7; 50_000]);
            assert_eq!(code(uploads.take((), &mut first, Instant(n))), Code::CONTINUE);
        }
        assert!(
            uploads.kept.order.len() < 100 && uploads.held() < 1_000,
            "{}",
            uploads.held()
        );
    }

    fn get(block: Option<Block>) -> Message {
        let mut message = Message::of_stream(Code::GET, token());
        if let Some(block) = block {
            block.put(&mut message.options, number::BLOCK2);
        }
        message
    }

    /// RFC 7959 §3.1, figures 2 and 3: the client fetches what is left, and may ask for smaller blocks.
    /// \[RFC7959-2.1-1\] \[RFC7959-2.2-2\] \[RFC7959-2.4-2\] \[RFC7959-2.4-4\]
    #[test]
    fn a_long_response_is_fetched_in_blocks() {
        let mut downloads = Downloads::new(1 << 20);
        let body: Vec<u8> = (0..3_000).map(|n| (n / 11) as u8).collect();
        for szx in [6, 2] {
            let whole = Message {
                payload: body.clone().into(),
                ..Message::of_stream(Code::CONTENT, token())
            };
            let first = get((szx != 6).then_some(Block {
                number: 0,
                more: false,
                szx,
            }));
            let mut got = downloads.cut((), &first, whole, 6, NOW);
            assert_eq!(got.options.uint(number::SIZE2), Some(3_000));
            let tag = got.options.get(number::ETAG).cloned();
            let mut all = Vec::new();
            loop {
                let block = Block::of(&got.options, number::BLOCK2).unwrap().unwrap();
                assert_eq!((block.szx, block.offset()), (szx, all.len()));
                assert_eq!(got.options.get(number::ETAG).cloned(), tag);
                all.extend_from_slice(&got.payload);
                if !block.more {
                    break;
                }
                let next = get(Some(Block {
                    number: block.number + 1,
                    more: false,
                    szx,
                }));
                got = downloads.next((), &next, NOW).expect("it is kept");
            }
            assert_eq!(all, body);
        }
        let beyond = get(Some(Block {
            number: 400,
            more: false,
            szx: 6,
        }));
        assert_eq!(downloads.next((), &beyond, NOW).unwrap().code, Code::BAD_OPTION);
        let mut reserved = get(None);
        reserved.options.push(number::BLOCK2, &[0x17][..]);
        assert_eq!(
            downloads.next((), &reserved, NOW).unwrap().code,
            Code::BAD_REQUEST
        );
    }
    /// §2.2, §2.4: in a request for a block it is ignored. \[RFC7959-2.2-4\]
    #[test]
    fn the_more_bit_of_who_asks_means_nothing() {
        let mut downloads = Downloads::new(1 << 20);
        let whole = Message {
            payload: vec![1; 3_000].into(),
            ..Message::of_stream(Code::CONTENT, token())
        };
        downloads.cut((), &get(None), whole, 6, NOW);
        let plain = downloads.next((), &get(block(1, false, 6)), NOW);
        assert_eq!(downloads.next((), &get(block(1, true, 6)), NOW), plain);
        assert_eq!(plain.expect("it is kept").payload.len(), 1_024);
    }

    /// §2.3, §2.4, RFC 9175 §3.8: blocks have the content format and the tag of their body; those of another format are of another body.
    /// \[RFC7959-2.3-5\] \[RFC7959-2.3-6\] \[RFC7959-2.4-5\] \[RFC9175-3.8-1\]
    #[test]
    fn blocks_are_of_one_body() {
        let mut uploads = Uploads::new(4_096, 1 << 20);
        let part = |n, more, format| {
            let mut message = put(block(n, more, 0), vec![0; 16]);
            message.options.push_uint(number::CONTENT_FORMAT, format);
            message
        };
        assert_eq!(
            code(uploads.take((), &mut part(0, true, 50), NOW)),
            Code::CONTINUE
        );
        assert_eq!(
            code(uploads.take((), &mut part(1, false, 0), NOW)),
            Code::REQUEST_ENTITY_INCOMPLETE
        );
        assert_eq!(uploads.take((), &mut part(1, false, 50), NOW), Ok(()));

        let mut downloads = Downloads::new(1 << 20);
        let mut whole = Message::of_stream(Code::CONTENT, token());
        whole.options.push_uint(number::CONTENT_FORMAT, 50);
        whole.payload = vec![1; 3_000].into();
        let other = Message {
            payload: vec![2; 3_000].into(),
            ..whole.clone()
        };
        let first = downloads.cut((), &get(None), whole, 6, NOW);
        let tag = first.options.get(number::ETAG).cloned();
        assert!(tag.is_some());
        for n in 1..3 {
            let next = downloads
                .next((), &get(block(n, false, 6)), NOW)
                .expect("it is kept");
            assert_eq!(next.options.uint(number::CONTENT_FORMAT), Some(50));
            assert_eq!(next.options.get(number::ETAG).cloned(), tag);
        }
        let first = downloads.cut((), &get(None), other, 6, NOW);
        assert_ne!(first.options.get(number::ETAG).cloned(), tag);
    }
}
