//! The client: one socket, one request at a time, and perhaps an observation.

use super::{CoapError, Target};
use bytes::{Bytes, BytesMut};
use headgate_coap_codec::{Block, Code, Kind, Message, Token, decode, encode, number};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

/// ACK_TIMEOUT with the mean of its random factor. §4.8
const FIRST_WAIT: Duration = Duration::from_millis(2_500);
/// MAX_RETRANSMIT. §4.8
const TIMES: u32 = 5;
/// So long the answer to a request that was acknowledged, or wants no confirmation, is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a block. RFC 7959 §2.2
const SZX: u8 = Block::MAX_SZX;

/// So many notifications wait while another one is fetched. More are not acknowledged, so that they come again.
const WAITING: usize = 16;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub code: Code,
    pub confirmable: bool,
    pub payload: Bytes,
    /// Content-format of the payload.
    pub format: Option<u16>,
    /// Content-format that the answer is to have.
    pub accept: Option<u16>,
    pub observe: bool,
}

/// See the module.
pub(crate) struct CoapClient {
    socket: UdpSocket,
    place: SocketAddr,
    target: Target,
    next_id: u16,
    next_token: u32,
    /// Of the observation, once it has begun.
    observed: Option<Token>,
    /// Notifications that came while something else was waited for.
    waiting: VecDeque<Message>,
    buffer: Box<[u8]>,
}

impl CoapClient {
    pub(crate) async fn open(target: Target) -> Result<Self, CoapError> {
        let place = target.resolve().await?;
        let any: SocketAddr = match place {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        let failed = |cause| CoapError::Socket {
            place: place.to_string(),
            cause,
        };
        let socket = UdpSocket::bind(any).await.map_err(failed)?;
        socket.connect(place).await.map_err(failed)?;
        let mut random = [0; 6];
        getrandom::fill(&mut random).map_err(|error| failed(io::Error::other(error)))?;
        let [a, b, token @ ..] = random;
        Ok(Self {
            socket,
            place,
            target,
            next_id: u16::from_be_bytes([a, b]),
            next_token: u32::from_be_bytes(token),
            observed: None,
            waiting: VecDeque::new(),
            buffer: vec![0; 65_536].into(),
        })
    }

    /// Asks, with payload and answer in blocks if they are long. RFC 7959
    pub(crate) async fn ask(&mut self, ask: &Ask) -> Result<Message, CoapError> {
        let first = self.send_body(ask).await?;
        if ask.observe && first.options.has(number::OBSERVE) {
            self.observed = Some(first.token);
        }
        self.fetch_rest(ask, first).await
    }

    /// The next notification. RFC 7641 §3.2
    pub(crate) async fn notification(&mut self, ask: &Ask) -> Result<Message, CoapError> {
        if let Some(message) = self.waiting.pop_front() {
            return self.fetch_rest(ask, message).await;
        }
        loop {
            let message = self.receive().await?;
            if self.is_notification(&message) {
                self.acknowledge(&message).await?;
                return self.fetch_rest(ask, message).await;
            }
            self.reject(&message).await?;
        }
    }

    fn is_notification(&self, message: &Message) -> bool {
        message.kind != Kind::Acknowledgement
            && message.code.is_response()
            && Some(message.token) == self.observed
    }

    /// A request with everything but payload and blocks.
    fn request(&mut self, ask: &Ask) -> Message {
        self.next_token = self.next_token.wrapping_add(1);
        let token = Token::new(&self.next_token.to_be_bytes()).expect("four bytes");
        let kind = if ask.confirmable {
            Kind::Confirmable
        } else {
            Kind::NonConfirmable
        };
        let mut request = Message::new(kind, ask.code, 0, token);
        self.target.put(&mut request);
        if let Some(accept) = ask.accept {
            request.options.push_uint(number::ACCEPT, accept.into());
        }
        request
    }

    /// Sends a payload, in as many requests as it needs; the answer to the last. RFC 7959 §2.5
    async fn send_body(&mut self, ask: &Ask) -> Result<Message, CoapError> {
        let mut block = Block {
            number: 0,
            more: false,
            szx: SZX,
        };
        loop {
            let mut request = self.request(ask);
            if let Some(format) = ask.format.filter(|_| !ask.payload.is_empty()) {
                request.options.push_uint(number::CONTENT_FORMAT, format.into());
            }
            if ask.observe {
                request.options.push_uint(number::OBSERVE, 0);
            }
            let from = block.offset();
            let to = ask.payload.len().min(from + block.size());
            block.more = to < ask.payload.len();
            request.payload = ask.payload.slice(from..to);
            if block.more || from > 0 {
                block.put(&mut request.options, number::BLOCK1);
                if from == 0 {
                    let size = u32::try_from(ask.payload.len()).unwrap_or(u32::MAX);
                    request.options.push_uint(number::SIZE1, size);
                }
            }
            let response = self.exchange(request).await?;
            if !block.more || response.code != Code::CONTINUE {
                return Ok(response);
            }
            // The server may want smaller ones from now on. §2.3
            let wanted = Block::of(&response.options, number::BLOCK1).and_then(Result::ok);
            let szx = wanted.map_or(block.szx, |wanted| wanted.szx.min(block.szx));
            block = Block {
                number: (to >> (szx + 4)) as u32,
                more: false,
                szx,
            };
        }
    }

    /// Fetches the blocks behind the first. RFC 7959 §2.4
    async fn fetch_rest(&mut self, ask: &Ask, first: Message) -> Result<Message, CoapError> {
        let mut part = Block::of(&first.options, number::BLOCK2).and_then(Result::ok);
        let mut whole = BytesMut::from(&first.payload[..]);
        while let Some(block) = part.filter(|block| block.more) {
            let mut request = self.request(ask);
            let next = Block {
                number: block.number + 1,
                more: false,
                szx: block.szx,
            };
            next.put(&mut request.options, number::BLOCK2);
            let response = self.exchange(request).await?;
            part = Block::of(&response.options, number::BLOCK2).and_then(Result::ok);
            if part.is_none_or(|part| part.offset() != whole.len()) || response.code != first.code {
                return Err(CoapError::Unexpected("another block"));
            }
            if response.options.get(number::ETAG) != first.options.get(number::ETAG) {
                return Err(CoapError::Superseded); // RFC 7959 §2.4
            }
            whole.extend_from_slice(&response.payload);
        }
        let payload = whole.freeze();
        Ok(Message { payload, ..first })
    }

    /// Sends one request until it is answered, and waits for the answer, which may come by itself. §5.2
    async fn exchange(&mut self, mut request: Message) -> Result<Message, CoapError> {
        self.next_id = self.next_id.wrapping_add(1);
        request.id = self.next_id;
        let began = Instant::now();
        let mut wait = FIRST_WAIT;
        let times = if request.kind == Kind::Confirmable {
            TIMES
        } else {
            1
        };
        for n in 0..times {
            self.send(&request).await?;
            let until = match request.kind {
                Kind::Confirmable => Instant::now() + wait,
                _ => Instant::now() + PATIENCE,
            };
            match self.answer_to(&request, until).await? {
                Some(answer) => return Ok(answer),
                None if n + 1 < times => wait *= 2,
                None => {}
            }
        }
        Err(CoapError::NoAnswer {
            place: self.place.to_string(),
            times,
            within: Duration::from_secs(began.elapsed().as_secs()),
        })
    }

    /// The answer, if it comes until then; when only its acknowledgement does, it is waited for.
    async fn answer_to(&mut self, request: &Message, until: Instant) -> Result<Option<Message>, CoapError> {
        let mut until = until;
        let mut acknowledged = false;
        loop {
            let Ok(message) = timeout_at(until, self.receive()).await else {
                return match acknowledged {
                    true => Err(CoapError::NoResponse {
                        place: self.place.to_string(),
                    }),
                    false => Ok(None),
                };
            };
            let message = message?;
            let is_ours = message.id == request.id;
            match message.kind {
                Kind::Acknowledgement if is_ours && message.code == Code::EMPTY => {
                    (acknowledged, until) = (true, Instant::now() + PATIENCE);
                }
                Kind::Acknowledgement if is_ours && message.token == request.token => {
                    return Ok(Some(message));
                }
                Kind::Reset if is_ours => return Err(CoapError::Rejected),
                Kind::Confirmable | Kind::NonConfirmable
                    if message.code.is_response() && message.token == request.token =>
                {
                    self.acknowledge(&message).await?;
                    return Ok(Some(message));
                }
                // Another one while the rest of one is fetched.
                _ if self.is_notification(&message) => {
                    if self.waiting.len() < WAITING {
                        self.acknowledge(&message).await?;
                        self.waiting.push_back(message);
                    }
                }
                _ => self.reject(&message).await?,
            }
        }
    }

    async fn acknowledge(&self, message: &Message) -> Result<(), CoapError> {
        match message.kind {
            Kind::Confirmable => {
                self.send(&Message::empty(Kind::Acknowledgement, message.id))
                    .await
            }
            _ => Ok(()),
        }
    }

    /// §4.2: what is not understood is rejected, a ping among it.
    async fn reject(&self, message: &Message) -> Result<(), CoapError> {
        match message.kind {
            Kind::Confirmable => self.send(&Message::empty(Kind::Reset, message.id)).await,
            _ => Ok(()),
        }
    }

    async fn send(&self, message: &Message) -> Result<(), CoapError> {
        let mut bytes = BytesMut::new();
        encode(message, &mut bytes).map_err(|_| CoapError::Unexpected("too long a path"))?;
        self.socket
            .send(&bytes)
            .await
            .map(drop)
            .map_err(|cause| self.failed(cause))
    }

    /// The next message that is one.
    async fn receive(&mut self) -> Result<Message, CoapError> {
        loop {
            let received = self.socket.recv(&mut self.buffer).await;
            let n = received.map_err(|cause| self.failed(cause))?;
            if let Ok(message) = decode(&self.buffer[..n]) {
                return Ok(message);
            }
        }
    }

    fn failed(&self, cause: io::Error) -> CoapError {
        let place = self.place.to_string();
        match cause.kind() {
            io::ErrorKind::ConnectionRefused => CoapError::NobodyThere(place),
            _ => CoapError::Socket { place, cause },
        }
    }

    /// Ends the observation, if it can in a short time. RFC 7641 §3.6
    pub(crate) async fn cancel(&mut self, ask: &Ask) {
        if let Some(token) = self.observed.take() {
            let mut request = self.request(ask);
            request.token = token;
            request.options.push_uint(number::OBSERVE, 1);
            let _ = timeout(Duration::from_secs(2), self.exchange(request)).await;
        }
    }
}
