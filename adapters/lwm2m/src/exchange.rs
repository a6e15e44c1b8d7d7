//! One request of ours to a peer and its response, both in as many blocks as they need. RFC 7959
//!
//! It says which message goes next and takes what comes back; who sends, waits and gives up is somebody else.

use bytes::{Bytes, BytesMut};
use headgate_coap::blockwise::etag;
use headgate_coap_codec::{Block, Code, Kind, Message, Token, number};

/// See the module.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The request, whole: it is cut when it is sent.
    request: Message,
    /// Of its body, if that goes in blocks: another one for every other body. RFC 9175 §3.3
    tag: Bytes,
    token: Token,
    /// Bytes of the request's body that the peer has.
    taken: usize,
    /// The exponent of the blocks that we send.
    szx: u8,
    /// What has come of the response's body.
    gathered: BytesMut,
    /// The first part of a response that comes in blocks.
    head: Option<Message>,
    /// The block that is asked for next.
    wanted: Option<Block>,
}

impl Exchange {
    /// Of a request with its whole body, in blocks of this exponent at most.
    pub(crate) fn new(request: Message, szx: u8) -> Self {
        let is_cut = request.payload.len() > 16 << szx;
        let tag = if is_cut {
            etag(&request.payload)
        } else {
            Bytes::new()
        };
        Self {
            request,
            tag,
            token: Token::default(),
            taken: 0,
            szx,
            gathered: BytesMut::new(),
            head: None,
            wanted: None,
        }
    }

    /// The same, with the tag of a body that is known already: making one looks at the whole body.
    pub(crate) fn tagged(request: Message, szx: u8, tag: Bytes) -> Self {
        let payload = request.payload.clone();
        let head = Message {
            payload: Bytes::new(),
            ..request
        };
        let mut exchange = Self::new(head, szx);
        (exchange.request.payload, exchange.tag) = (payload, tag);
        exchange
    }

    /// To fetch the rest of a message that came with its first block, such as a notification. RFC 7959 §2.6
    ///
    /// # Errors
    ///
    /// Its block can be none.
    pub(crate) fn of_rest(
        request: Message,
        first: Message,
        szx: u8,
        max_body: usize,
    ) -> Result<Self, Broken> {
        let mut exchange = Self::new(request, szx);
        match exchange.gather(first, max_body) {
            Ok(_) => Ok(exchange),
            Err(why) => Err(why),
        }
    }

    /// The token of what was sent last.
    pub(crate) fn token(&self) -> Token {
        self.token
    }

    /// Bytes that it holds of its own. Its request is counted where it came from.
    pub(crate) fn held(&self) -> usize {
        self.gathered.capacity()
    }

    /// Bytes of the request's body that the peer has, and of how many.
    pub(crate) fn progress(&self) -> (usize, usize) {
        (self.taken, self.request.payload.len())
    }

    /// The message that goes now, under this token.
    pub(crate) fn message(&mut self, token: Token) -> Message {
        self.token = token;
        let mut message = Message {
            kind: Kind::Confirmable,
            token,
            ..self.request.clone()
        };
        let body = &self.request.payload;
        let size = 16_usize << self.szx;
        if let Some(block) = self.wanted {
            message.options.remove(number::OBSERVE);
            // RFC 8132 §2: what a FETCH asks for is in its body, so it is said again; if that is long, by its format alone.
            let is_fetch = message.code == Code::FETCH;
            if !is_fetch || body.len() > size {
                message.payload = Bytes::new();
            }
            if !is_fetch {
                message.options.remove(number::CONTENT_FORMAT);
            }
            block.put(&mut message.options, number::BLOCK2);
        } else if body.len() > size {
            let to = body.len().min(self.taken + size);
            message.payload = body.slice(self.taken..to);
            let block = Block {
                number: u32::try_from(self.taken / size).unwrap_or(u32::MAX),
                more: to < body.len(),
                szx: self.szx,
            };
            block.put(&mut message.options, number::BLOCK1);
            if self.taken == 0 {
                let size = u32::try_from(body.len()).unwrap_or(u32::MAX);
                message.options.push_uint(number::SIZE1, size);
            }
            // RFC 9175 §3.3: blocks of this body, and of no other.
            message.options.push(number::REQUEST_TAG, self.tag.clone());
        }
        message
    }

    /// A response came under its token.
    pub(crate) fn on_response(&mut self, response: Message, max_body: usize) -> Next {
        if let Some(next) = self.sends_on(&response) {
            return next;
        }
        match self.gather(response, max_body) {
            Ok(Some(whole)) => Next::Done(whole),
            Ok(None) => Next::Send,
            Err(why) => Next::Broken(why),
        }
    }

    /// Whether the response is about a block of the request that has others behind it. RFC 7959 §2.9
    fn sends_on(&mut self, response: &Message) -> Option<Next> {
        let body = self.request.payload.len();
        let size = 16_usize << self.szx;
        if self.wanted.is_some() || body <= size {
            // A body that went whole, and was too long for that: the answer says which blocks it takes. §2.9.3
            return self.shrinks(response);
        }
        let echoed = Block::of(&response.options, number::BLOCK1).and_then(Result::ok);
        if response.code == Code::CONTINUE {
            if echoed.is_none_or(|block| block.number as usize != self.taken / size) {
                return Some(Next::Broken(Broken::OtherBlock));
            }
            self.taken = body.min(self.taken + size);
            if self.taken == body {
                return Some(Next::Broken(Broken::LastBlock));
            }
            // §2.3: the peer wants smaller ones from now on.
            let wished = echoed.map_or(self.szx, |block| block.szx);
            self.szx = self.szx.min(wished);
            if self.taken >> (4 + self.szx) > Block::MAX_NUMBER as usize {
                return Some(Next::Broken(Broken::TooLong));
            }
            return Some(Next::Send);
        }
        self.shrinks(response).or_else(|| {
            if response.code.is_success() {
                self.taken = body;
            }
            None
        })
    }

    fn shrinks(&mut self, response: &Message) -> Option<Next> {
        let is_first = self.taken == 0 && self.wanted.is_none() && !self.request.payload.is_empty();
        let asks = response.code == Code::REQUEST_ENTITY_TOO_LARGE;
        let block = Block::of(&response.options, number::BLOCK1)?.ok()?;
        if !(is_first && asks && block.szx < self.szx) {
            return None;
        }
        self.szx = block.szx;
        Some(Next::Send)
    }

    /// Puts a response together. `None` while blocks are missing.
    fn gather(&mut self, mut response: Message, max_body: usize) -> Result<Option<Message>, Broken> {
        let Some(block) = Block::of(&response.options, number::BLOCK2) else {
            return Ok(Some(response));
        };
        let block = block.map_err(|_| Broken::Option)?;
        if !response.code.is_success() {
            return Ok(Some(response));
        }
        if block.offset() != self.gathered.len() {
            return Err(Broken::NotAsked);
        }
        let known = self.head.as_ref().and_then(|head| head.options.get(number::ETAG));
        if self.head.is_some() && known != response.options.get(number::ETAG) {
            return Err(Broken::Changed);
        }
        if block.more && response.payload.len() != block.size() {
            return Err(Broken::NotFull);
        }
        if self.gathered.len() + response.payload.len() > max_body {
            return Err(Broken::TooLong);
        }
        self.gathered.extend_from_slice(&response.payload);
        if block.more {
            if block.number == Block::MAX_NUMBER {
                return Err(Broken::TooLong);
            }
            response.payload = Bytes::new();
            self.head.get_or_insert(response);
            self.wanted = Some(Block {
                number: block.number + 1,
                more: false,
                szx: block.szx,
            });
            return Ok(None);
        }
        let mut whole = self.head.take().unwrap_or(response);
        whole.payload = std::mem::take(&mut self.gathered).freeze();
        Ok(Some(whole))
    }
}

/// Why what came cannot be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("a block option that can be none")]
    Option,
    #[error("a block that was not asked for")]
    NotAsked,
    #[error("what was being fetched has changed")]
    Changed,
    #[error("a block that is not full")]
    NotFull,
    #[error("too long, or too many blocks (max_body_bytes)")]
    TooLong,
    #[error("2.31 for another block than was sent")]
    OtherBlock,
    #[error("2.31 for the last block")]
    LastBlock,
}

/// What follows from a response.
#[derive(Debug)]
pub(crate) enum Next {
    /// The next message goes.
    Send,
    /// That was the response, whole.
    Done(Message),
    /// What came cannot be put together.
    Broken(Broken),
}

#[cfg(test)]
mod tests {
    use super::*;

    const SZX: u8 = 2;

    fn put(body: &[u8]) -> Exchange {
        let mut message = Message::of_stream(Code::PUT, Token::default());
        message.options.push(number::URI_PATH, "5");
        message.payload = Bytes::copy_from_slice(body);
        Exchange::new(message, SZX)
    }

    fn get() -> Exchange {
        Exchange::new(Message::of_stream(Code::GET, Token::default()), SZX)
    }

    fn token(n: u8) -> Token {
        Token::new(&[n]).unwrap()
    }

    fn response(code: Code, option: u16, block: Option<Block>, payload: &[u8]) -> Message {
        let mut message = Message::of_stream(code, token(1));
        if let Some(block) = block {
            block.put(&mut message.options, option);
        }
        message.payload = Bytes::copy_from_slice(payload);
        message
    }

    fn block(number: u32, more: bool, szx: u8) -> Option<Block> {
        Some(Block { number, more, szx })
    }

    fn done(next: Next) -> (Code, Vec<u8>) {
        match next {
            Next::Done(message) => (message.code, message.payload.to_vec()),
            other => panic!("{other:?}"),
        }
    }

    /// RFC 7959 §3.2, figures 7 and 8: block by block, and smaller ones when the peer wishes.
    /// \[RFC7959-2.3-4\] \[RFC7959-2.5-1\] \[RFC7959-2.5-3\] \[RFC7959-3.2-1\] \[LWM2M-6.3.3-BLOCKS\]
    #[test]
    fn a_body_goes_in_blocks() {
        let body: Vec<u8> = (0..150).collect();
        let mut exchange = put(&body);
        let first = exchange.message(token(1));
        assert_eq!(first.payload, &body[..64]);
        assert_eq!(first.options.uint(number::SIZE1), Some(150));
        let next = exchange.on_response(
            response(Code::CONTINUE, number::BLOCK1, block(0, true, 1), b""),
            99,
        );
        assert!(matches!(next, Next::Send));
        for (n, range, more) in [(2, 64..96, true), (3, 96..128, true), (4, 128..150, false)] {
            let message = exchange.message(token(n));
            assert_eq!(message.payload, &body[range]);
            let sent = Block::of(&message.options, number::BLOCK1).unwrap().unwrap();
            assert_eq!((sent.number, sent.more, sent.szx), (n.into(), more, 1));
            let code = if more { Code::CONTINUE } else { Code::CHANGED };
            let next =
                exchange.on_response(response(code, number::BLOCK1, block(n.into(), more, 1), b""), 99);
            match more {
                true => assert!(matches!(next, Next::Send), "{next:?}"),
                false => assert_eq!(done(next), (Code::CHANGED, vec![])),
            }
        }
        assert_eq!(exchange.progress(), (150, 150));
    }

    /// §2.9.3: 4.13 with a smaller size is a wish; without one it is the answer. \[RFC7959-2.5-1\]
    #[test]
    fn a_peer_may_want_smaller_blocks_at_once() {
        let body = [7; 100];
        let mut exchange = put(&body);
        exchange.message(token(1));
        let refusal = response(
            Code::REQUEST_ENTITY_TOO_LARGE,
            number::BLOCK1,
            block(0, true, 0),
            b"",
        );
        assert!(matches!(exchange.on_response(refusal.clone(), 99), Next::Send));
        assert_eq!(exchange.message(token(2)).payload.len(), 16);
        assert_eq!(
            done(exchange.on_response(refusal, 99)).0,
            Code::REQUEST_ENTITY_TOO_LARGE
        );
    }

    /// RFC 7959 §3.1, figure 2 \[RFC7959-2.2-3\] \[RFC7959-2.3-2\] \[RFC7959-2.4-1\] \[RFC7959-2.4-3\] \[RFC7959-2.7-1\]
    #[test]
    fn a_response_comes_in_blocks() {
        let mut exchange = get();
        exchange.message(token(1));
        let next = exchange.on_response(
            response(Code::CONTENT, number::BLOCK2, block(0, true, 0), &[1; 16]),
            99,
        );
        assert!(matches!(next, Next::Send));
        let asked = exchange.message(token(2));
        assert_eq!(
            Block::of(&asked.options, number::BLOCK2).unwrap().ok(),
            block(1, false, 0)
        );
        let next = exchange.on_response(
            response(Code::CONTENT, number::BLOCK2, block(1, false, 0), &[2; 3]),
            99,
        );
        assert_eq!(
            done(next),
            (Code::CONTENT, [[1; 16].as_slice(), &[2; 3]].concat())
        );
    }

    /// RFC 8132 §2: a FETCH says with each block what it asks for.
    #[test]
    fn the_rest_of_a_fetch_is_asked_for_by_its_body() {
        let mut message = Message::of_stream(Code::FETCH, Token::default());
        message.options.push_uint(number::CONTENT_FORMAT, 110);
        message.payload = Bytes::from_static(b"[{\"n\":\"/\"}]");
        let mut exchange = Exchange::new(message, SZX);
        exchange.message(token(1));
        let first = response(Code::CONTENT, number::BLOCK2, block(0, true, 0), &[1; 16]);
        assert!(matches!(exchange.on_response(first, 99), Next::Send));
        let asked = exchange.message(token(2));
        assert_eq!(asked.options.uint(number::CONTENT_FORMAT), Some(110));
        assert_eq!(asked.payload, &b"[{\"n\":\"/\"}]"[..]);
    }

    /// What a peer may not do. \[RFC7959-2.3-1\]
    #[test]
    fn what_cannot_be_put_together_is_told() {
        let bad = [
            (block(1, false, 0), 3, Broken::NotAsked),
            (block(0, true, 0), 15, Broken::NotFull),
            (block(0, true, 6), 1_024, Broken::TooLong),
            (block(0, true, 7), 3, Broken::Option),
        ];
        for (block, bytes, told) in bad {
            let mut exchange = get();
            exchange.message(token(1));
            let response = response(Code::CONTENT, number::BLOCK2, block, &vec![0; bytes]);
            assert!(matches!(exchange.on_response(response, 99), Next::Broken(why) if why == told));
        }
        let mut exchange = put(&[0; 100]);
        exchange.message(token(1));
        let skipped = response(Code::CONTINUE, number::BLOCK1, block(5, true, SZX), b"");
        assert!(matches!(exchange.on_response(skipped, 99), Next::Broken(_)));
    }
    /// RFC 7959 §2.4: blocks with another ETag are of another body. \[RFC7959-2.4-6\] \[RFC7959-2.6-3\]
    #[test]
    fn what_has_changed_meanwhile_is_told() {
        let part = |n, more, bytes: &[u8], tag: &'static str| {
            let mut part = response(Code::CONTENT, number::BLOCK2, block(n, more, 0), bytes);
            part.options.push(number::ETAG, tag);
            part
        };
        let mut exchange = get();
        exchange.message(token(1));
        let next = exchange.on_response(part(0, true, &[1; 16], "a"), 99);
        assert!(matches!(next, Next::Send));
        exchange.message(token(2));
        let next = exchange.on_response(part(1, false, &[2; 3], "b"), 99);
        assert!(matches!(next, Next::Broken(Broken::Changed)));
    }
}
