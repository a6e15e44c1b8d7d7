"""CoAP over one UDP port, as client and server at once. [RFC 7252] [RFC 7641] [RFC 7959]

aiocoap encodes and decodes the messages. What is done with them is decided here, as the tests need a device that
can stay silent, answer late, forget, and choose between confirmable and not.
"""

import asyncio
import collections
import dataclasses
import hashlib
import secrets
import socket
import time

import aiocoap
from aiocoap.numbers.types import Type

CON, NON, ACK, RST = Type.CON, Type.NON, Type.ACK, Type.RST
EXCHANGE_LIFETIME = 247
NON_LIFETIME = 145
LARGEST_BODY = 8 << 20
# A request that takes longer is acknowledged first and answered later.
PATIENCE = 1.0


# Options that must be understood, and are. Those of proxies and of OSCORE are not.
UNDERSTOOD = {1, 3, 5, 7, 11, 15, 17, 23, 27}


class NoAnswer(Exception):
    """Nothing came back, or a Reset. `begun`: some blocks had come."""

    begun = False


@dataclasses.dataclass
class Settings:
    ack_timeout: float = 2.0
    max_retransmit: int = 4
    block_exponent: int = 6  # 2^(4+6) = 1024 bytes


@dataclasses.dataclass
class Response:
    code: str
    payload: bytes = b""
    content_format: int | None = None
    location: tuple = ()
    observe: int | None = None


def code_of(text):
    """The code of "4.04"."""
    upper, lower = text.split(".")
    return aiocoap.Code((int(upper) << 5) + int(lower))


def message(code, mtype=CON, token=b"", payload=b"", **options):
    made = aiocoap.Message(code=code, payload=payload)
    made.mtype = mtype
    made.token = token
    for name, value in options.items():
        if value is not None:
            setattr(made.opt, name, value)
    return made


def number(option):
    return None if option is None else int(option)


class Dtls:
    """A DTLS session of tinydtls with a pre-shared key towards one address."""

    def __init__(self, address, identity, key, send, received, failed):
        from DTLSSocket import dtls

        dtls.setLogLevel(dtls.DTLS_LOG_EMERG)
        self.connected = False
        self.waiting = []
        self._received, self._failed = received, failed
        self._peer = ("::1", address[1])
        self._dtls = dtls.DTLS(
            read=self._read,
            write=lambda _to, data: send(bytes(data)) or len(data),
            event=self._event,
            pskId=identity,
            pskStore={identity: key},
        )
        self._session = self._dtls.connect(*self._peer)
        self._timer = asyncio.get_running_loop().create_task(self._retransmit())

    def send(self, data):
        if self.connected:
            self._dtls.write(self._session, data)
        else:
            self.waiting.append(data)

    def feed(self, data):
        self._dtls.handleMessage(self._session, data)

    def close(self):
        """Says close_notify."""
        self._timer.cancel()
        if self._session is not None:
            self._dtls.resetPeer(self._session)
        self._session = None

    def forget(self):
        """Ends without a word, as a device that loses its power."""
        self._timer.cancel()
        self._dtls.pycb = {"read": lambda *_: 0, "write": lambda _to, data: len(data), "event": lambda *_: None}
        self._session = None

    def _read(self, _from, data):
        self._received(bytes(data))
        return len(data)

    def _event(self, level, code):
        if code == 0x1DE:
            self.connected = True
            # Not from inside tinydtls.
            asyncio.get_running_loop().call_soon(self._flush)
        elif level:
            self._failed(f"DTLS alert {level}/{code}")

    def _flush(self):
        waiting, self.waiting = self.waiting, []
        for data in waiting:
            self.send(data)

    async def _retransmit(self):
        while True:
            await asyncio.sleep(0.5)
            self._dtls.checkRetransmit()


class Endpoint(asyncio.DatagramProtocol):
    """One UDP port.

    `serve` is a coroutine that makes a Response of a request: it gets an aiocoap.Message whose body is whole.
    `tell` writes an event. `accepts` says whether somebody's messages are for us.
    """

    def __init__(self, settings, serve, tell, accepts=lambda _address: True, on_block=lambda _request: None):
        self.settings, self.serve, self.tell, self.accepts, self.on_block = settings, serve, tell, accepts, on_block
        # What a test asks for.
        self.deaf = False
        self.silent_requests = 0
        self.silent_datagrams = 0
        self.separate_seconds = None
        self.separate_requests = None

        self._transport = None
        self._family = socket.AF_INET
        self._dtls = {}
        self._mid = secrets.randbelow(65536)
        self._answers = {}  # token -> future of a response to a request of ours
        self._acks = {}  # (address, message id) -> future: "acked" or "reset"
        self._seen = collections.OrderedDict()  # (address, message id) -> (time, token, reply or None)
        self._uploads = {}  # Block1 bodies
        self._downloads = collections.OrderedDict()  # Block2 bodies
        self._silenced = collections.OrderedDict()
        self._notified = collections.OrderedDict()  # message ids of NON notifications -> what a Reset does
        self._tasks = set()

    # The port.

    async def bind(self, host="", port=0, family=socket.AF_INET):
        self._family = family
        loop = asyncio.get_running_loop()
        host = host or ("::" if family == socket.AF_INET6 else "0.0.0.0")
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(host, port), family=family)

    @property
    def port(self):
        return self._transport.get_extra_info("sockname")[1]

    async def move(self, host="", port=0):
        """Goes on from another port, as behind a NAT that forgot: nothing else changes."""
        old = self._transport
        await self.bind(host, port, self._family)
        old.close()

    async def resolve(self, host, port):
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=self._family, type=socket.SOCK_DGRAM)
        return found[0][4][:2]

    def is_secure(self, address):
        return address in self._dtls

    def secure(self, address, identity, key):
        """All that goes to this address goes through DTLS from now on."""
        old = self._dtls.pop(address, None)
        if old:
            old.forget()
        for known in [each for each in self._seen if each[0] == address]:
            del self._seen[known]
        self._dtls[address] = Dtls(
            address,
            identity,
            key,
            send=lambda data: self._transport.sendto(data, address),
            received=lambda data: self._decrypted(data, address),
            failed=lambda why: self.tell(event="error", what=why),
        )

    def close(self):
        for session in self._dtls.values():
            session.close()
        for task in self._tasks:
            task.cancel()
        self._transport.close()

    def forget(self):
        """What a reboot loses."""
        self._seen.clear()
        self._uploads.clear()
        self._downloads.clear()
        self._notified.clear()

    def spawn(self, coroutine):
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task):
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            self.tell(event="error", what=f"{type(task.exception()).__name__}: {task.exception()}")

    def next_mid(self):
        self._mid = self._mid + 1 & 0xFFFF
        return self._mid

    def _send(self, data, address):
        if address in self._dtls:
            self._dtls[address].send(data)
        else:
            self._transport.sendto(data, address)

    # Coming in.

    def datagram_received(self, data, address):
        address = address[:2]
        if self.deaf:
            self.tell(event="dropped", bytes=len(data))
            return
        if address in self._dtls:
            self._dtls[address].feed(data)
        else:
            self._received(data, address)

    def error_received(self, exc):
        """ICMP says nobody is there: the timers decide, as the server may come back."""

    def _decrypted(self, data, address):
        # Not from inside tinydtls, which is not prepared to be called again.
        asyncio.get_running_loop().call_soon(self._received, data, address)

    def _received(self, data, address):
        try:
            incoming = aiocoap.Message.decode(data)
        except Exception as error:  # anything can be wrong with bytes from outside
            self.tell(event="error", what=f"no message: {error}", payload_hex=data.hex())
            return
        key = (address, incoming.mid)
        if incoming.mtype in (ACK, RST):
            self._settle(key, "reset" if incoming.mtype == RST else "acked")
            if incoming.mtype == ACK and incoming.code.is_response():
                self._answered(incoming)
            return
        if incoming.code.is_response():
            known = self._answered(incoming)
            if incoming.mtype == CON:
                self._send_empty(ACK if known else RST, incoming.mid, address)
        elif incoming.code.is_request():
            self._requested(incoming, address)
        elif incoming.mtype == CON:
            # A ping.
            self._send_empty(RST, incoming.mid, address)

    def _settle(self, key, outcome):
        waiting = self._acks.get(key)
        if waiting and not waiting.done():
            waiting.set_result(outcome)
        elif outcome == "reset" and key in self._notified:
            self._notified.pop(key)()

    def _answered(self, response):
        waiting = self._answers.get(response.token)
        if waiting and not waiting.done():
            waiting.set_result(response)
        return waiting is not None

    def _send_empty(self, mtype, mid, address):
        empty = message(aiocoap.EMPTY, mtype)
        empty.mid = mid
        self._send(empty.encode(), address)

    # Serving.

    def _requested(self, request, address):
        key = (address, request.mid)
        if not self.accepts(address):
            self.tell(event="stranger", host=address[0], port=address[1])
            if request.mtype == CON:
                self._send_empty(RST, request.mid, address)
            return
        if self._silenced.get(key) == request.token:
            return
        seen, token, reply = self._seen.get(key, (-EXCHANGE_LIFETIME, None, None))
        if time.monotonic() - seen < EXCHANGE_LIFETIME:
            if token == request.token:
                self.tell(event="duplicate", mid=request.mid)
                if reply:
                    self._send(reply, address)
                return
            # Another request: the server has begun again, or gives message ids too early. It is served.
            self.tell(event="reused", mid=request.mid)
        if self.silent_datagrams:
            self.silent_datagrams -= 1
            self.tell(event="ignored", mid=request.mid)
            return
        if self.silent_requests:
            # Repetitions of this request are ignored as well.
            self.silent_requests -= 1
            self._remember(self._silenced, key, request.token)
            self.tell(event="ignored", mid=request.mid)
            return
        self._remember(self._seen, key, (time.monotonic(), request.token, None))
        self.spawn(self._serve(request, address))

    @staticmethod
    def _remember(where, key, what, limit=500):
        where[key] = what
        while len(where) > limit:
            where.popitem(last=False)

    async def _serve(self, request, address):
        made = asyncio.get_running_loop().create_task(self._respond(request, address))
        separate, seconds = False, self.separate_seconds
        if seconds is not None:
            if self.separate_requests is not None:
                self.separate_requests -= 1
                if self.separate_requests <= 0:
                    self.separate_seconds = self.separate_requests = None
            separate = self._acknowledge(request, address)
            await asyncio.sleep(seconds)
        else:
            done, _ = await asyncio.wait({made}, timeout=PATIENCE)
            if not done:
                separate = self._acknowledge(request, address)
        response, after = await made
        response.token = request.token
        if request.mtype == NON:
            response.mtype, response.mid = NON, self.next_mid()
            self._send(response.encode(), address)
        elif not separate:
            response.mtype, response.mid = ACK, request.mid
            self._reply(response.encode(), request, address)
        else:
            response.mtype = CON
        self.tell(
            event="answered",
            code=response.code.dotted,
            path="/" + "/".join(request.opt.uri_path),
            content_format=number(response.opt.content_format),
            observe=response.opt.observe,
            separate=separate,
            payload_hex=response.payload.hex(),
        )
        if response.mtype == CON:
            await self.transmit(response, address)
        if after:
            after()

    def _acknowledge(self, request, address):
        if request.mtype != CON:
            return False
        empty = message(aiocoap.EMPTY, ACK)
        empty.mid = request.mid
        self._reply(empty.encode(), request, address)
        return True

    def _reply(self, data, request, address):
        """Sends and keeps it for a repetition of the request."""
        self._remember(self._seen, (address, request.mid), (time.monotonic(), request.token, data))
        self._send(data, address)

    async def _respond(self, request, address):
        """The message of a response, and what is to be done when it is on its way."""
        unknown = [int(each.number) for each in request.opt.option_list() if each.number.is_critical()]
        unknown = [each for each in unknown if each not in UNDERSTOOD]
        if unknown:
            self.tell(event="error", what=f"critical options {unknown}")
            return message(aiocoap.BAD_OPTION), None
        key = self.cache_key(request, address)
        block2 = request.opt.block2
        if block2 and block2.block_number > 0 and request.opt.block1 is None:
            if key not in self._downloads:
                return message(aiocoap.REQUEST_ENTITY_INCOMPLETE), None
            return self.cut(self._downloads[key], key, block2), None
        block1 = request.opt.block1
        if block1:
            early = self._collect(request, address, block1)
            if early:
                return early, None
            key = self.cache_key(request, address)
        response, after = await self.serve(request, address)
        told = message(
            code_of(response.code),
            payload=response.payload,
            content_format=response.content_format,
            location_path=response.location or None,
            observe=response.observe,
        )
        if block1:
            told.opt.block1 = (block1.block_number, False, min(block1.size_exponent, self.settings.block_exponent))
        return self.cut(told, key, block2), after

    @staticmethod
    def cache_key(request, address):
        options = request.opt
        return (
            address, int(request.code), options.uri_path, options.uri_query, number(options.accept),
            number(options.content_format), request.payload,
        )  # fmt: skip

    def _collect(self, request, address, block):
        """Puts Block1 together. Gives the answer to all blocks but the last one."""
        options = request.opt
        key = (address, int(request.code), options.uri_path, options.uri_query)
        if block.block_number == 0:
            self._uploads[key] = b""
        body = self._uploads.get(key)
        if body is None or len(body) != block.block_number * (16 << block.size_exponent):
            self._uploads.pop(key, None)
            return message(aiocoap.REQUEST_ENTITY_INCOMPLETE)
        body += request.payload
        self._uploads[key] = body
        self.tell(event="block", path="/" + "/".join(options.uri_path), number=block.block_number, more=block.more)
        if len(body) > LARGEST_BODY:
            del self._uploads[key]
            return message(aiocoap.REQUEST_ENTITY_TOO_LARGE, size1=LARGEST_BODY)
        if block.more:
            if block.block_number == 0:
                self.on_block(request)
            exponent = min(block.size_exponent, self.settings.block_exponent)
            return message(aiocoap.CONTINUE, block1=(block.block_number, True, exponent))
        request.payload = self._uploads.pop(key)
        return None

    def cut(self, whole, key, wanted=None):
        """The block of a response that was asked for; all of it if it is short."""
        exponent = min(wanted.size_exponent if wanted else 7, self.settings.block_exponent)
        size = 16 << exponent
        # A client may ask for smaller blocks later than the first.
        start = wanted.block_number * (16 << wanted.size_exponent) if wanted else 0
        if len(whole.payload) <= size and start == 0:
            return whole
        if start >= len(whole.payload):
            return message(aiocoap.BAD_OPTION)
        self._remember(self._downloads, key, whole, 20)
        part = message(whole.code, whole.mtype or CON, payload=whole.payload[start : start + size])
        part.opt.content_format = whole.opt.content_format
        part.opt.etag = hashlib.sha256(whole.payload).digest()[:4]
        part.opt.block2 = (start // size, start + size < len(whole.payload), exponent)
        if start == 0:
            part.opt.size2 = len(whole.payload)
            part.opt.observe = whole.opt.observe
        return part

    # Sending.

    async def transmit(self, outgoing, address):
        """Sends a confirmable message until it is acknowledged: "acked", "reset" or "timeout"."""
        outgoing.mid = self.next_mid()
        key = (address, outgoing.mid)
        waiting = self._acks[key] = asyncio.get_running_loop().create_future()
        timeout = self.settings.ack_timeout
        data = outgoing.encode()
        try:
            for _ in range(self.settings.max_retransmit + 1):
                self._send(data, address)
                done, _ = await asyncio.wait({waiting}, timeout=timeout)
                if done:
                    return waiting.result()
                timeout *= 2
            return "timeout"
        finally:
            del self._acks[key]

    def notify(self, outgoing, address, on_reset):
        """Sends a message that is not confirmable. A Reset may come for a while."""
        outgoing.mid = self.next_mid()
        self._remember(self._notified, (address, outgoing.mid), on_reset)
        self._send(outgoing.encode(), address)

    async def request(self, method, address, path, query=(), payload=b"", **options):
        """A request of ours with its whole response."""
        blocks, sent, exponent = len(payload) > 16 << self.settings.block_exponent, 0, self.settings.block_exponent
        while blocks:
            size = 16 << exponent
            more = sent + size < len(payload)
            part = message(method, payload=payload[sent : sent + size], uri_path=path, uri_query=query, **options)
            part.opt.block1 = (sent // size, more, exponent)
            response = await self._exchange(part, address)
            if not more or response.code != aiocoap.CONTINUE:
                break
            sent += size
            if response.opt.block1:
                exponent = min(exponent, response.opt.block1.size_exponent)
        else:
            whole = message(method, payload=payload, uri_path=path, uri_query=query, **options)
            response = await self._exchange(whole, address)
        body = response.payload
        while response.opt.block2 and response.opt.block2.more:
            exponent = response.opt.block2.size_exponent
            following = message(method, uri_path=path, uri_query=query, **options)
            following.opt.block2 = (len(body) >> exponent + 4, False, exponent)
            try:
                response = await self._exchange(following, address)
            except NoAnswer as error:
                error.begun = True
                raise
            if not response.code.is_successful():
                return response
            body += response.payload
        response.payload = body
        return response

    async def _exchange(self, outgoing, address):
        outgoing.token = secrets.token_bytes(4)
        waiting = self._answers[outgoing.token] = asyncio.get_running_loop().create_future()
        sending = self.spawn(self.transmit(outgoing, address))
        try:
            await asyncio.wait({waiting, sending}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
            outcome = sending.result()
            if outcome != "acked":
                raise NoAnswer(outcome)
            # Acknowledged: the response comes separately.
            return await asyncio.wait_for(waiting, self.settings.ack_timeout * 46)
        except TimeoutError:
            raise NoAnswer("no response") from None
        finally:
            sending.cancel()
            del self._answers[outgoing.token]
