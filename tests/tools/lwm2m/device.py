"""The client of LwM2M: bootstrap, registration, device management, information reporting, firmware update."""

import asyncio
import dataclasses
import time
import urllib.parse

import aiocoap

from . import coap, formats
from .coap import Response
from .model import EXECUTABLE, WRITABLE, Record, Refused, Tree, path_of, text_of
from .observe import Observation, Observer, attribute_text, check_thresholds, parse_attributes

MAX_TRANSMIT_WAIT = 93
NO_SECURITY, PRE_SHARED_KEY = 3, 0


@dataclasses.dataclass
class Options:
    """What the command line says."""

    endpoint: str
    server: str | None = None
    bootstrap: str | None = None
    lifetime: int = 300
    version: str = "1.1"
    binding: str = "U"
    queue: bool = False
    local_host: str = ""
    local_port: int = 0
    alternate_root: str = "/"
    format: str | None = None
    identity: str | None = None
    key: str | None = None
    habit: str | None = None
    updates: bool = True
    notify: str | None = None
    update_seconds: float = 0.3
    messages: coap.Settings = dataclasses.field(default_factory=coap.Settings)


class Device:
    def __init__(self, options, tell):
        self.options, self.tell = options, tell
        self.version = options.version
        self.binding, self.queue = options.binding, options.queue
        if self.version == "1.0":
            if self.queue and "Q" not in self.binding:
                self.binding += "Q"
        elif "Q" in self.binding:
            self.binding, self.queue = self.binding.replace("Q", ""), True
        self.root = tuple(part for part in options.alternate_root.split("/") if part)
        self.tree = Tree(self.version, self.binding)
        self.attributes = {}  # path -> attributes written by the server
        self.observer = Observer(self)
        notify = options.notify or {"wakaama": "non", "anjay": "con"}.get(options.habit, "con")
        self.confirmable_notifications = notify == "con"
        self.endpoint = coap.Endpoint(options.messages, self.serve, tell, self._accepts, self._block_began)
        self.firmware = Firmware(self)
        self.location = None
        self.server = self.bootstrap_server = None  # addresses
        self.bootstrapping = False
        self.failures = {}  # path -> (code, how often or None)
        self.slowness = {}  # path -> seconds
        self._registering = asyncio.Lock()
        self._update_timer = None
        if options.server:
            self._account(0, options.server, False, 1, options.identity, options.key)
            self._server_object(0, 1, options.lifetime)
        if options.bootstrap:
            self._account(1, options.bootstrap, True, None, options.identity, options.key)

    def _account(self, instance, uri, bootstrap, short, identity, key):
        values = {0: uri, 1: bootstrap, 2: PRE_SHARED_KEY if key else NO_SECURITY}
        if key:
            values |= {3: identity.encode(), 5: bytes.fromhex(key)}
        if short is not None:
            values[10] = short
        self.tree.instances[0][instance] = values

    def _server_object(self, instance, short, lifetime):
        binding = self.binding if self.version == "1.0" else self.options.binding
        self.tree.instances[1][instance] = {0: short, 1: lifetime, 5: 86400, 6: True, 7: binding}

    async def open(self):
        host = urllib.parse.urlsplit(self.options.server or self.options.bootstrap).hostname or ""
        family = coap.socket.AF_INET6 if ":" in host else coap.socket.AF_INET
        await self.endpoint.bind(self.options.local_host, self.options.local_port, family)
        if self.options.server:
            self.server = await self._connect(self.server_account())
        if self.options.bootstrap and not self.options.key:
            # It may begin unasked.
            self.bootstrap_server = await self._connect(self.bootstrap_account())
        self.tell(event="ready", port=self.endpoint.port)

    def server_account(self):
        """The Security instance of the server that manages this device."""
        for instance, values in sorted(self.tree.instances[0].items()):
            if not values.get(1):
                return instance
        return None

    def server_instance(self):
        """The Server instance that has the short id of that account."""
        short = self.tree.instances[0].get(self.server_account(), {}).get(10)
        for instance, values in sorted(self.tree.instances[1].items()):
            if values.get(0) == short:
                return instance
        return None

    async def _connect(self, account, again=False):
        """The address of an account; with DTLS if it says so."""
        values = self.tree.instances[0][account]
        uri = urllib.parse.urlsplit(values[0])
        secure = uri.scheme == "coaps" or values.get(2) == PRE_SHARED_KEY
        address = await self.endpoint.resolve(uri.hostname, uri.port or (5684 if secure else 5683))
        if secure and (again or not self.endpoint.is_secure(address)):
            self.endpoint.secure(address, values[3], values[5])
        return address

    def _accepts(self, address):
        return address in (self.server, self.bootstrap_server)

    # Registration. [1.0.2, 5.3] [1.1, 6.2]

    @property
    def lifetime(self):
        return self.tree.instances[1][self.server_instance()][1]

    def _query(self, *wanted):
        """Parameters in the order of wakaama and Anjay."""
        given = {
            "lwm2m": f"lwm2m={self.version}",
            "ep": f"ep={self.options.endpoint}",
            "b": f"b={self.binding}",
            "Q": "Q" if self.queue and self.version != "1.0" else None,
            "lt": f"lt={self.lifetime}" if "lt" in wanted else None,
        }
        order = ("lwm2m", "ep", "lt", "b", "Q") if self.options.habit == "anjay" else ("lwm2m", "ep", "b", "Q", "lt")
        if self.options.habit == "anjay" and self.binding == "U":
            # It is the default.
            wanted = [each for each in wanted if each != "b"]
        return tuple(given[name] for name in order if name in wanted and given[name])

    def links(self):
        """Objects and instances. [1.0.2, 5.3.1] [1.1, 6.2.1]"""
        root = "/" + "/".join(self.root)
        # wakaama names the alternate root but does not put it before the others.
        below = "" if self.options.habit == "wakaama" else root.rstrip("/")
        found = []
        if self.options.habit != "anjay" or self.root:
            ct = ""
            if self.options.habit == "wakaama" and self.version != "1.0":
                ct = ";ct=112"
            elif self.version != "1.0":
                known = formats.supported(self.version) - {formats.TEXT, formats.OPAQUE}
                ct = ';ct="' + " ".join(map(str, sorted(known))) + '"'
            elif self.options.habit != "wakaama":
                ct = ";ct=11543"
            found.append(f'<{root}>;rt="oma.lwm2m"{ct}')
        quote = '"' if self.version == "1.0" else ""
        for number in self.tree.children(()):
            if number == 0:
                continue
            version = self.tree.objects[number].version
            instances = self.tree.children((number,))
            if version:
                found.append(f"<{below}/{number}>;ver={quote}{version}{quote}")
            elif not instances:
                found.append(f"<{below}/{number}>")
            found += [f"<{below}/{number}/{instance}>" for instance in instances]
        return ",".join(found).encode()

    async def register(self):
        async with self._registering:
            self._stop_timer()
            # A registration begins without observations.
            self.observer.clear()
            self.location = None
            wanted = ("lwm2m", "ep", "lt", "b", "Q")
            try:
                response = await self.endpoint.request(
                    aiocoap.POST, self.server, ("rd",), self._query(*wanted), self.links(), content_format=formats.LINK
                )
            except coap.NoAnswer as error:
                self.tell(event="error", what=f"register: {error}")
                return False
            if response.code != aiocoap.CREATED:
                text = response.payload.decode(errors="replace")
                self.tell(event="refused", what="register", code=response.code.dotted, text=text)
                return False
            self.location = response.opt.location_path
            self.tell(event="registered", location="/".join(self.location), port=self.endpoint.port)
            self._start_timer()
            return True

    async def update(self, lifetime=None, binding=None, links=False):
        if self.location is None:
            self.tell(event="error", what="update: not registered")
            return
        wanted = []
        if lifetime is not None:
            self.tree.set((1, self.server_instance(), 1), lifetime)
            wanted.append("lt")
        if binding is not None:
            self.queue = "Q" in binding
            self.binding = binding if self.version == "1.0" else binding.replace("Q", "")
            self.tree.set((1, self.server_instance(), 7), binding)
            self.tree.set((3, 0, 16), self.binding)
            wanted += ["b", "Q"]
        options = {"content_format": formats.LINK} if links else {}
        async with self._registering:
            self._stop_timer()
            try:
                response = await self.endpoint.request(
                    aiocoap.POST,
                    self.server,
                    self.location,
                    self._query(*wanted),
                    self.links() if links else b"",
                    **options,
                )
            except coap.NoAnswer as error:
                self.tell(event="error", what=f"update: {error}")
                self._start_timer()
                return
            self.tell(event="updated", code=response.code.dotted)
        if response.code == aiocoap.CHANGED:
            self._start_timer()
        else:
            # The server does not know it any more.
            await self.register()

    async def deregister(self):
        self._stop_timer()
        if self.location is None:
            self.tell(event="error", what="deregister: not registered")
            return
        location, self.location = self.location, None
        self.observer.clear()
        try:
            response = await self.endpoint.request(aiocoap.DELETE, self.server, location)
            self.tell(event="deregistered", code=response.code.dotted)
        except coap.NoAnswer as error:
            self.tell(event="error", what=f"deregister: {error}")

    def _start_timer(self):
        """The next Update comes before the lifetime ends, early enough for all its repetitions."""
        self._stop_timer()
        if self.options.updates and self.lifetime > 0:
            wait = self.lifetime - min(self.lifetime / 2, MAX_TRANSMIT_WAIT)
            self._update_timer = asyncio.get_running_loop().call_later(wait, self._time_to_update)

    def _stop_timer(self):
        if self._update_timer:
            self._update_timer.cancel()
            self._update_timer = None

    def _time_to_update(self):
        # Asleep it does not: its lifetime may end.
        if not self.endpoint.deaf:
            self.endpoint.spawn(self.update())

    def _objects_changed(self):
        """The server shall know the new list of instances."""
        if self.options.updates and self.location is not None:
            self.endpoint.spawn(self.update(links=True))

    async def reboot(self, seconds=0.0):
        """Forgets what is not kept without power, and registers again."""
        self._stop_timer()
        self.observer.clear()
        self.attributes.clear()
        self.endpoint.forget()
        self.location = None
        self.tell(event="rebooted")
        await asyncio.sleep(seconds)
        self.server = await self._connect(self.server_account(), again=True)
        await self.register()

    # Send. [1.1, 6.4.6]

    async def send(self, records, form=None):
        """Values of now, or those that are given."""
        if self.tree.instances[1][self.server_instance()].get(23):
            self.tell(event="error", what="send: muted by the server")
            return
        form = formats.NAMES.get(form or self.options.format or "", formats.SENML_CBOR)
        if form not in (formats.SENML_JSON, formats.SENML_CBOR, formats.LWM2M_CBOR):
            form = formats.SENML_CBOR
        found, times = [], []
        for each in records:
            path = path_of(each["path"])
            if "value" in each:
                kind = self.tree.kind_of(path)
                read = [Record(path, self.from_json(each["value"], kind), kind)]
            else:
                read = self.tree.read(path)
            found += read
            times += [each.get("time")] * len(read)
        if form == formats.LWM2M_CBOR:
            payload = formats.encode_lwm2m_cbor(found)
        elif self.options.habit == "anjay" and found and not any(times):
            # It names what is common, and says when.
            common = formats.common_path(found) or None
            payload = formats.encode_senml(form, found, common, base_time=time.time(), slash_leads=True)
        else:
            payload = formats.encode_senml(form, found, times=times)
        try:
            response = await self.endpoint.request(
                aiocoap.POST, self.server, ("dp",), payload=payload, content_format=form
            )
            self.tell(event="sent", code=response.code.dotted)
        except coap.NoAnswer as error:
            self.tell(event="error", what=f"send: {error}")

    @staticmethod
    def from_json(value, kind):
        """A value of a command: {"hex": "00ff"} is opaque."""
        if isinstance(value, dict) and "hex" in value:
            return bytes.fromhex(value["hex"])
        if isinstance(value, str) and kind == "opaque":
            return value.encode()
        return formats.coerce(value, kind)

    # Requests of servers.

    async def serve(self, request, address):
        """The response, and what follows when it has gone."""
        options = request.opt
        path = "/" + "/".join(options.uri_path)
        method = request.code.name if request.code in aiocoap.Code.__members__.values() else str(request.code)
        self.tell(
            event="request",
            method=method,
            path=path,
            query=list(options.uri_query),
            accept=coap.number(options.accept),
            observe=options.observe,
            content_format=coap.number(options.content_format),
            payload_hex=request.payload.hex(),
            token_hex=request.token.hex(),
            type=request.mtype.name,
            mid=request.mid,
        )
        try:
            if path in self.slowness:
                await asyncio.sleep(self.slowness[path])
            self._fail_if_told(path)
            if address == self.bootstrap_server and (self.bootstrapping or address != self.server):
                answer = self._serve_bootstrap(request)
            else:
                answer = self._serve_management(request, address)
            return answer if isinstance(answer, tuple) else (answer, None)
        except Refused as refused:
            return Response(refused.code, refused.why.encode(), formats.TEXT if refused.why else None), None
        except formats.FormatError as error:
            return Response("4.00", str(error).encode(), formats.TEXT), None
        except Exception as error:  # a test must see it, and go on
            self.tell(event="error", what=f"{type(error).__name__}: {error}")
            return Response("5.00"), None

    def _fail_if_told(self, path):
        for key in (path, "*"):
            if key in self.failures:
                code, times = self.failures[key]
                if times is not None:
                    self.failures[key] = (code, times - 1)
                    if times <= 1:
                        del self.failures[key]
                raise Refused(code, "as the test wants")

    def _path(self, request):
        parts = request.opt.uri_path
        if parts[: len(self.root)] != self.root:
            raise Refused("4.04", "not below the root")
        return path_of("/".join(parts[len(self.root) :]))

    # Device management. [1.0.2, 5.4] [1.1, 6.3]

    def _serve_management(self, request, address):
        code = request.code
        if code in (aiocoap.FETCH, aiocoap.iPATCH) and self.version == "1.0":
            raise Refused("4.05", "composite operations came with 1.1")
        if code == aiocoap.FETCH:
            return self._read_composite(request, address)
        if code == aiocoap.iPATCH:
            return self._write_composite(request)
        path = self._path(request)
        if path and path[0] == 0:
            raise Refused("4.01", "Security is of the bootstrap server")
        if not path:
            raise Refused("4.05", "the root")
        if code == aiocoap.GET:
            if coap.number(request.opt.accept) == formats.LINK:
                return self._discover(request, path)
            return self._read(request, path, address)
        if code == aiocoap.PUT:
            if request.opt.uri_query and not request.payload:
                return self._write_attributes(request, path)
            return self._write(request, path, replace=True)
        if code == aiocoap.POST:
            if len(path) == 1:
                return self._create(request, path)
            definition = self.tree.definition(path)
            form = coap.number(request.opt.content_format)
            adds = definition is not None and definition.multiple and form not in (None, formats.TEXT)
            if len(path) == 3 and not (adds and self.version != "1.0"):
                return self._execute(request, path)
            return self._write(request, path, replace=False)
        if code == aiocoap.DELETE:
            if len(path) == 4 and self.version == "1.0":
                raise Refused("4.04")
            self.tree.delete(path)
            self.attributes = {key: kept for key, kept in self.attributes.items() if key[: len(path)] != path}
            self.observer.changed([path])
            return Response("2.02"), self._objects_changed if len(path) == 2 else None
        raise Refused("4.05", "method")

    def choose_format(self, accept, path, records):
        """Accept decides; without one the option --format, the version and the habit."""
        known = formats.supported(self.version)
        definition = self.tree.definition(path)
        single = len(path) == 4 or (len(path) == 3 and not definition.multiple)
        opaque = single and definition.kind == "opaque"
        fits = {each for each in known if each not in formats.SINGLE or single}
        if not opaque:
            fits.discard(formats.OPAQUE)
        if accept is not None:
            if accept not in fits:
                raise Refused("4.06", f"no {accept} for this")
            return accept
        preferred = formats.NAMES.get(self.options.format or "")
        if preferred in fits:
            return preferred
        if opaque and self.version != "1.0":
            return formats.OPAQUE
        if single and (self.version != "1.0" or self.options.habit):
            return formats.TEXT
        if self.version == "1.0" or self.options.habit == "wakaama":
            return formats.TLV
        return formats.SENML_CBOR

    def _read(self, request, path, address):
        records = self.tree.read(path)
        form = self.choose_format(coap.number(request.opt.accept), path, records)
        response = Response("2.05", self._encode(form, path, records), form)
        if request.opt.observe == 0:
            own = {}
            if request.opt.uri_query and self.version == "1.2":
                # 1.2 lets Observe carry attributes.
                own = parse_attributes(request.opt.uri_query, path, self.tree.kind_of(path), self.version)
            self._observe(request, address, [path], form, own, response)
        elif request.opt.observe == 1:
            self.observer.cancel(request.token, [path])
        return response

    def _observe(self, request, address, paths, form, own, response):
        observation = Observation(request, address, paths, form, own)
        observation.key = self.endpoint.cache_key(request, address)
        self.observer.add(observation)
        response.observe = observation.sequence

    def represent(self, observation):
        """The payload of a notification."""
        if observation.composite:
            records = self._records_of(observation.paths)
            return self._encode_composite(observation.form, records)
        path = observation.paths[0]
        return self._encode(observation.form, path, self.tree.read(path))

    def _encode(self, form, path, records):
        definition = self.tree.definition(path)
        multiple = bool(definition and definition.multiple)
        return formats.encode(form, path, records, multiple, slash_leads=self.options.habit == "anjay")

    def values_of(self, observation):
        return {record.path: record.value for record in self._records_of(observation.paths)}

    def _records_of(self, paths):
        """What can be read of several paths; what is not there is left out."""
        records = []
        for path in paths:
            try:
                if path and path[0] == 0:
                    continue
                records += [each for each in self.tree.read(path) if each.path[0] != 0 and each not in records]
            except Refused:
                pass
        return records

    def attributes_of(self, path):
        """The nearest level wins; the server's defaults are the last."""
        found = {}
        instance = self.server_instance()
        if instance is not None:
            server = self.tree.instances[1][instance]
            found = {name: server[number] for name, number in (("pmin", 2), ("pmax", 3)) if number in server}
        for length in range(1, len(path) + 1):
            found |= self.attributes.get(path[:length], {})
        return found

    def _write_attributes(self, request, path):
        self.tree.require(path)
        new = parse_attributes(request.opt.uri_query, path, self.tree.kind_of(path), self.version)
        merged = {**self.attributes.get(path, {}), **new}
        merged = {name: value for name, value in merged.items() if value is not None}
        check_thresholds(merged)
        self.attributes[path] = merged
        self.observer.rearm()
        return Response("2.04")

    def _discover(self, request, path):
        """[1.0.2, 5.4.2 and 5.5] [1.1, 6.3.2] [1.2 has `depth`]"""
        self.tree.require(path)
        if len(path) == 4:
            raise Refused("4.00", "resource instances are not discovered")
        depth = 2 if len(path) == 1 else 1
        if len(path) == 3 and self.version == "1.0":
            depth = 0
        for each in request.opt.uri_query:
            name, _, value = each.partition("=")
            if name != "depth" or self.version != "1.2" or value not in ("0", "1", "2", "3"):
                raise Refused("4.00", each)
            depth = int(value)
        found = []

        def walk(here):
            definition = self.tree.definition(here)
            text = f"<{'/' + '/'.join(self.root) if self.root else ''}{text_of(here)}>"
            attributes = self.attributes.get(here, {})
            if here == path and len(path) > 1:
                # What it has from above is told as well.
                attributes = {}
                for length in range(1, len(path) + 1):
                    attributes |= self.attributes.get(path[:length], {})
            told = here == path or len(path) > 1 or self.version == "1.2"
            if len(here) == 1 and self.tree.objects[here[0]].version:
                quote = '"' if self.version == "1.0" else ""
                text += f";ver={quote}{self.tree.objects[here[0]].version}{quote}"
            if len(here) == 3 and definition.multiple and told:
                text += f";dim={len(self.tree.children(here))}"
            found.append(text + (attribute_text(attributes) if told else ""))
            if len(here) - len(path) < depth and len(here) < 4:
                for child in self.tree.children(here):
                    walk(here + (child,))

        walk(path)
        return Response("2.05", ",".join(found).encode(), formats.LINK)

    def _content(self, request, path):
        """The records of a payload."""
        form = coap.number(request.opt.content_format)
        if form is None:
            form = formats.TEXT if len(path) > 2 else formats.TLV
        if form not in formats.supported(self.version):
            raise Refused("4.15", f"format {form}")
        if form in formats.SINGLE and len(path) < 3:
            raise Refused("4.15", "one value for an instance")
        return formats.decode(form, request.payload, path, self.tree.kind_of)

    def _write(self, request, path, replace):
        if len(path) == 1:
            raise Refused("4.05", "objects are not written")
        if len(path) > 2 and not self.tree.exists(path[:2]):
            raise Refused("4.04", text_of(path))
        if len(path) == 4 and self.version == "1.0":
            raise Refused("4.04", "no resource instances in 1.0")
        if len(path) == 2:
            self.tree.require(path)
        definition = self.tree.definition(path)
        if len(path) > 2 and definition is None:
            raise Refused("4.04", text_of(path))
        if definition and WRITABLE not in definition.operations:
            raise Refused("4.05", "not writable")
        records = self._content(request, path)
        return self._apply(path, records, replace)

    def _apply(self, path, records, replace):
        self.tree.check_write(records)
        for record in records:
            if record.path[:2] == (5, 0):
                self.firmware.check_write(record)
        changed = self.tree.write(path, records, replace)
        self.observer.changed(changed)
        firmware = [record for record in records if record.path[:2] == (5, 0)]
        lifetime = any(record.path[0] == 1 and record.path[2] == 1 for record in records)
        binding = any(record.path[0] == 1 and record.path[2] == 7 for record in records)

        def afterwards():
            for record in firmware:
                self.firmware.written(record)
            if lifetime or binding:
                server = self.tree.instances[1][self.server_instance()]
                changes = {"lifetime": server[1] if lifetime else None, "binding": server[7] if binding else None}
                self.endpoint.spawn(self.update(**changes))

        return Response("2.04"), afterwards

    def _create(self, request, path):
        form = coap.number(request.opt.content_format)
        if path[0] not in self.tree.objects:
            raise Refused("4.04", text_of(path))
        if form is not None and (form not in formats.supported(self.version) or form in formats.SINGLE):
            raise Refused("4.15", f"format {form}")
        if form in (None, formats.TLV):
            instance, inner = formats.tlv_instance(request.payload)
            if instance is None:
                instance = self.tree.free_instance(path[0])
            records = formats.decode(formats.TLV, inner, (path[0], instance), self.tree.kind_of)
        else:
            instance, records = self._create_named(form, request.payload, path)
        self.tree.create(path[0], instance, records)
        self.observer.changed([(path[0], instance)])
        location = (*self.root, str(path[0]), str(instance))
        return Response("2.01", location=location), self._objects_changed

    def _create_named(self, form, payload, path):
        """The formats with names: each record says which instance it is of."""
        records = formats.decode(form, payload, path, self.tree.kind_of)
        instances = {record.path[1] for record in records if len(record.path) > 1}
        if len(instances) > 1 or any(record.path[:1] != path for record in records):
            raise Refused("4.00", "one instance is created at a time")
        return (instances.pop() if instances else self.tree.free_instance(path[0])), records

    def _execute(self, request, path):
        self.tree.require(path)
        if EXECUTABLE not in self.tree.definition(path).operations:
            raise Refused("4.05", "not executable")
        form = coap.number(request.opt.content_format)
        if form not in (None, formats.TEXT):
            raise Refused("4.15", f"arguments as {form}")
        text = request.payload.decode()
        arguments = parse_arguments(text)
        effect = self._effect(path)
        self.tell(event="executed", path=text_of(path), arguments=text, parsed=arguments)
        return Response("2.04"), effect

    def _effect(self, path):
        """What Execute does, once it is answered."""
        spawn = self.endpoint.spawn
        if path == (3, 0, 4):
            return lambda: spawn(self.reboot())
        if path == (3, 0, 12):
            return lambda: self.set((3, 0, 11), {0: 0})
        if path == (5, 0, 2):
            return self.firmware.execute()
        if path[0] == 3303 and path[2] == 5605:
            value = self.tree.value(path[:2] + (5700,))
            return lambda: [self.set(path[:2] + (each,), value) for each in (5601, 5602)]
        if path[0] == 1 and path[2] == 8:
            return lambda: spawn(self.update())
        if path[0] == 1 and path[2] == 9:
            if self.bootstrap_account() is None:
                raise Refused("4.05", "no bootstrap server")
            return lambda: spawn(self.bootstrap())
        if path[0] == 1 and path[2] == 4:
            return lambda: spawn(self._disable())
        return None

    async def _disable(self):
        await self.deregister()
        await asyncio.sleep(self.tree.instances[1][self.server_instance()].get(5, 86400))
        await self.register()

    # Composite operations. [1.1, 6.3.8, 6.3.9, 6.4.4]

    def _composite_paths(self, request):
        form = coap.number(request.opt.content_format)
        known = {formats.SENML_JSON, formats.SENML_CBOR, formats.SENML_ETCH_JSON, formats.SENML_ETCH_CBOR}
        if form not in known:
            raise Refused("4.15", f"format {form}")
        try:
            return [each["path"] for each in formats.decode_senml(form, request.payload)]
        except (ValueError, TypeError, KeyError, AttributeError, EOFError, formats.cbor2.CBORError) as error:
            raise Refused("4.00", str(error)) from error

    def _require_root(self, request):
        """ "/" may come as no segment or as an empty one."""
        if tuple(part for part in request.opt.uri_path if part) not in ((), self.root):
            raise Refused("4.04", "composite operations are of the root")

    def _composite_format(self, request):
        accept = coap.number(request.opt.accept)
        known = [formats.SENML_CBOR, formats.SENML_JSON] + ([formats.LWM2M_CBOR] if self.version == "1.2" else [])
        if accept is None:
            asked = coap.number(request.opt.content_format)
            return {formats.SENML_JSON: formats.SENML_JSON, formats.SENML_ETCH_JSON: formats.SENML_JSON}.get(
                asked, formats.SENML_CBOR
            )
        if accept not in known:
            raise Refused("4.06", f"format {accept}")
        return accept

    @staticmethod
    def _encode_composite(form, records):
        if form == formats.LWM2M_CBOR:
            return formats.encode_lwm2m_cbor(records)
        return formats.encode_senml(form, records)

    def _read_composite(self, request, address):
        self._require_root(request)
        paths = self._composite_paths(request)
        form = self._composite_format(request)
        response = Response("2.05", self._encode_composite(form, self._records_of(paths)), form)
        if request.opt.observe == 0:
            self._observe(request, address, paths, form, {}, response)
        elif request.opt.observe == 1:
            self.observer.cancel(request.token, paths)
        return response

    def _write_composite(self, request):
        self._require_root(request)
        form = coap.number(request.opt.content_format)
        if form not in (formats.SENML_JSON, formats.SENML_CBOR, formats.SENML_ETCH_JSON, formats.SENML_ETCH_CBOR) and (
            form != formats.LWM2M_CBOR or self.version != "1.2"
        ):
            raise Refused("4.15", f"format {form}")
        records = formats.decode(form, request.payload, (), self.tree.kind_of)
        for record in records:
            if record.path[:1] == (0,):
                raise Refused("4.01", "Security is of the bootstrap server")
            if not self.tree.exists(record.path[:2]):
                raise Refused("4.04", text_of(record.path))
        return self._apply((), records, replace=False)

    # Commands that change values.

    def set(self, path, value):
        self.tree.set(path, value)
        changed = [path[:3]]
        if path[0] == 3303 and path[2] == 5700:
            # The extremes follow.
            instance = self.tree.instances[3303][path[1]]
            for number, better in ((5601, min), (5602, max)):
                extreme = better(instance.get(number, value), value)
                if extreme != instance.get(number):
                    instance[number] = extreme
                    changed.append((3303, path[1], number))
        self.observer.changed(changed)

    def _block_began(self, request):
        """The first block of a package has come: it is downloading."""
        if request.code == aiocoap.PUT and request.opt.uri_path == (*self.root, "5", "0", "0"):
            self.firmware.downloading()

    # Sleeping, waking, moving.

    def sleep(self):
        self.endpoint.deaf = True
        self.observer.paused = True
        self.tell(event="asleep")

    async def wake(self, update):
        self.endpoint.deaf = False
        self.tell(event="awake")
        if update:
            await self.update()
        # Notification Storing
        self.observer.resume(self.tree.instances[1][self.server_instance()].get(6, True))
        if self.location is not None and not update:
            self._start_timer()

    # Bootstrap. [1.0.2, 5.2] [1.1 and 1.2, 6.1]

    def bootstrap_account(self):
        for instance, values in sorted(self.tree.instances[0].items()):
            if values.get(1):
                return instance
        return None

    async def _find_bootstrap_server(self):
        account = self.bootstrap_account()
        if account is None:
            self.tell(event="error", what="bootstrap: no bootstrap server")
            return False
        self._stop_timer()
        self.bootstrap_server = await self._connect(account)
        self.bootstrapping = True
        return True

    async def bootstrap(self):
        """Asks the bootstrap server; it writes and finishes as it likes."""
        if not await self._find_bootstrap_server():
            return
        query = [f"ep={self.options.endpoint}"]
        if self.version != "1.0":
            query.append(f"pct={formats.SENML_CBOR}")
        try:
            response = await self.endpoint.request(aiocoap.POST, self.bootstrap_server, ("bs",), query)
        except coap.NoAnswer as error:
            self.tell(event="error", what=f"bootstrap: {error}")
            return
        if response.code == aiocoap.CHANGED:
            self.tell(event="bootstrapping", code=response.code.dotted)
        else:
            self.bootstrapping = False
            self.tell(event="refused", what="bootstrap", code=response.code.dotted)

    async def bootstrap_pack(self, form=formats.SENML_CBOR):
        """Fetches everything at once. [1.2, 6.1.7.3]"""
        if not await self._find_bootstrap_server():
            return
        query = [f"ep={self.options.endpoint}"]
        try:
            response = await self.endpoint.request(aiocoap.GET, self.bootstrap_server, ("bspack",), query, accept=form)
        except coap.NoAnswer as error:
            self.tell(event="error", what=f"bootstrap-pack: {error}")
            return
        if response.code != aiocoap.CONTENT:
            self.bootstrapping = False
            self.tell(event="refused", what="bootstrap-pack", code=response.code.dotted)
            return
        try:
            records = formats.decode(coap.number(response.opt.content_format), response.payload, (), self.tree.kind_of)
            self._bootstrap_write((), records)
            self._check_accounts()
        except (Refused, formats.FormatError) as error:
            self.tell(event="error", what=f"bootstrap-pack: {error}")
            return
        await self._bootstrapped()

    def _serve_bootstrap(self, request):
        code, parts = request.code, request.opt.uri_path
        if code == aiocoap.POST and parts == ("bs",):
            self._check_accounts()
            return Response("2.04"), lambda: self.endpoint.spawn(self._bootstrapped())
        path = self._path(request)
        if code == aiocoap.GET:
            if coap.number(request.opt.accept) == formats.LINK:
                return self._bootstrap_discover(path)
            if self.version == "1.0" or len(path) not in (1, 2) or path[0] not in (1, 2):
                raise Refused("4.05", "only Server and Access Control are read")
            records = self.tree.read(path, everything=True)
            form = self.choose_format(coap.number(request.opt.accept), path, records)
            return Response("2.05", formats.encode(form, path, records, False), form)
        if code == aiocoap.PUT:
            if not path:
                raise Refused("4.05", "the root")
            if path[0] not in self.tree.objects:
                raise Refused("4.04", text_of(path))
            self._bootstrap_write(path, self._content(request, path))
            return Response("2.04")
        if code == aiocoap.DELETE:
            self._bootstrap_delete(path)
            return Response("2.02")
        raise Refused("4.05", "method")

    def _bootstrap_write(self, path, records):
        """What is not defined is left out; instances come into being."""
        known = [record for record in records if self.tree.definition(record.path) is not None]
        if len(path) == 3 and not known:
            raise Refused("4.04", text_of(path))
        if len(path) == 2:
            self.tree.instances[path[0]].setdefault(path[1], {})
        self.tree.write(path, known, replace=len(path) == 2, everything=True)

    def _bootstrap_delete(self, path):
        """All but its own account and the Device object."""
        if len(path) > 2:
            raise Refused("4.05", "resources are not deleted")
        if path and path[0] not in self.tree.objects:
            raise Refused("4.04", text_of(path))
        kept = [(0, self.bootstrap_account()), (3, 0)]
        if len(path) == 2:
            if path in kept:
                raise Refused("4.05" if path[0] == 3 else "4.00", "this stays")
            self.tree.require(path)
        for number in [path[0]] if path else list(self.tree.instances):
            for instance in list(self.tree.instances[number]):
                if (number, instance) not in kept and (len(path) < 2 or path[1] == instance):
                    del self.tree.instances[number][instance]

    def _bootstrap_discover(self, path):
        if len(path) > 1:
            raise Refused("4.00", "objects are discovered")
        self.tree.require(path)
        version = f'lwm2m="{self.version}"' if self.version == "1.0" else f"</>;lwm2m={self.version}"
        found = [version]
        for number in self.tree.children(()) if not path else path:
            known = self.tree.objects[number]
            quote = '"' if self.version == "1.0" else ""
            found.append(f"</{number}>" + (f";ver={quote}{known.version}{quote}" if known.version else ""))
            for instance in self.tree.children((number,)):
                values = self.tree.instances[number][instance]
                text = f"</{number}/{instance}>"
                if number == 0 and not values.get(1):
                    text += f";ssid={values.get(10)}"
                if number == 0 and self.version != "1.0" and 0 in values:
                    text += f';uri="{values[0]}"'
                if number == 1:
                    text += f";ssid={values.get(0)}"
                found.append(text)
        return Response("2.05", ",".join(found).encode(), formats.LINK)

    def _check_accounts(self):
        """Finish is refused while there is no whole account of a server."""
        account = self.server_account()
        if account is None or 0 not in self.tree.instances[0][account] or self.server_instance() is None:
            raise Refused("4.06", "no account of a server")
        if 1 not in self.tree.instances[1][self.server_instance()]:
            raise Refused("4.06", "no lifetime")

    async def _bootstrapped(self):
        self.bootstrapping = False
        account = self.tree.instances[0][self.server_account()]
        self.tell(event="bootstrapped", server=account[0], short_id=account.get(10), lifetime=self.lifetime)
        binding = self.tree.instances[1][self.server_instance()].get(7)
        if binding:
            self.queue = self.queue or "Q" in binding
            self.binding = binding if self.version == "1.0" else binding.replace("Q", "") or "U"
        self.server = await self._connect(self.server_account(), again=True)
        await self.register()


def parse_arguments(text):
    """[1.0.2, 5.4.5] The arguments of Execute: [(digit, value or None)]."""
    if not text:
        return []
    found, rest = [], text
    while True:
        if not rest or rest[0] not in "0123456789":
            raise Refused("4.00", "an argument begins with a digit")
        digit, rest = int(rest[0]), rest[1:]
        value = None
        if rest.startswith("="):
            if not rest.startswith("='") or "'" not in rest[2:]:
                raise Refused("4.00", "a value stands in quotes")
            value, rest = rest[2:].split("'", 1)
            if any(not " " < each <= "~" or each in '"\\' for each in value):
                raise Refused("4.00", "a character of a value")
        found.append([digit, value])
        if not rest:
            return found
        if not rest.startswith(","):
            raise Refused("4.00", "a comma is missing")
        rest = rest[1:]


class Firmware:
    """Object 5 and its states. [1.0.2, E.6]

    A package decides with its first bytes what becomes of it:
    BADTYPE is of a type that is not supported (6), BAD fails its check (5), NOFLASH and NORAM do not fit (2, 3),
    FAIL cannot be installed (8), FW:x is version x. All others are one version higher.
    """

    IDLE, DOWNLOADING, DOWNLOADED, UPDATING = range(4)
    INITIAL, SUCCESS, NO_FLASH, NO_RAM, LOST, BROKEN, TYPE, URI, FAILED, PROTOCOL = range(10)

    def __init__(self, device):
        self.device = device
        self.package = b""
        self.task = None

    @property
    def state(self):
        return self.device.tree.instances[5][0][3]

    def become(self, state, result):
        """Each change is told to who observes."""
        values = self.device.tree.instances[5][0]
        changed = [path for path, new in (((5, 0, 3), state), ((5, 0, 5), result)) if values[path[2]] != new]
        values[3], values[5] = state, result
        self.device.tell(event="firmware", state=state, result=result)
        for path in changed:
            self.device.observer.changed([path])

    def check_write(self, record):
        empty = record.value in ("", b"", b"\0")
        if record.path[2] == 1 and self.state != self.IDLE and not empty:
            raise Refused("4.05", "an update is going on")
        if record.path[2] == 0 and not empty and self.state not in (self.IDLE, self.DOWNLOADING):
            raise Refused("4.05", "an update is going on")
        if self.state == self.UPDATING:
            raise Refused("4.05", "it is updating")

    def downloading(self):
        if self.state == self.IDLE:
            self.become(self.DOWNLOADING, self.INITIAL)

    def written(self, record):
        if record.path[2] not in (0, 1):
            return
        if record.value in ("", b"", b"\0"):
            # The state machine begins again.
            if self.task:
                self.task.cancel()
            self.package = b""
            self.become(self.IDLE, self.INITIAL)
        elif record.path[2] == 0:
            self.downloading()
            # It is kept here; nobody may read it.
            self.device.tree.instances[5][0].pop(0, None)
            self._check(record.value)
        else:
            self.become(self.DOWNLOADING, self.INITIAL)
            self.task = self.device.endpoint.spawn(self._pull(record.value))

    def _check(self, package):
        self.device.tell(event="package", bytes=len(package))
        self.package = package
        faults = {b"BADTYPE": self.TYPE, b"BAD": self.BROKEN, b"NOFLASH": self.NO_FLASH, b"NORAM": self.NO_RAM}
        for start, result in faults.items():
            if package.startswith(start):
                self.become(self.IDLE, result)
                return
        self.become(self.DOWNLOADED, self.INITIAL)

    async def _pull(self, uri):
        """From a port of its own, as a server of packages need not be the one that manages."""
        parts = urllib.parse.urlsplit(uri)
        if parts.scheme != "coap":
            self.become(self.IDLE, self.PROTOCOL if parts.scheme in ("http", "https", "coaps") else self.URI)
            return
        settings = dataclasses.replace(self.device.options.messages, max_retransmit=2)
        endpoint = coap.Endpoint(settings, serve=None, tell=self.device.tell, accepts=lambda _address: False)
        try:
            await endpoint.bind()
            address = await endpoint.resolve(parts.hostname, parts.port or 5683)
            path = tuple(urllib.parse.unquote(each) for each in parts.path.split("/")[1:])
            query = tuple(urllib.parse.unquote(each) for each in parts.query.split("&") if each)
            response = await endpoint.request(aiocoap.GET, address, path, query)
        except (coap.NoAnswer, OSError, ValueError) as error:
            self.device.tell(event="package", failed=str(error))
            self.become(self.IDLE, self.LOST if getattr(error, "begun", False) else self.URI)
            return
        finally:
            endpoint.close()
        if response.code == aiocoap.CONTENT:
            self._check(response.payload)
        else:
            self.become(self.IDLE, self.URI)

    def execute(self):
        if self.state != self.DOWNLOADED:
            raise Refused("4.05", "nothing is downloaded")
        return lambda: self.device.endpoint.spawn(self._update())

    async def _update(self):
        self.become(self.UPDATING, self.INITIAL)
        await asyncio.sleep(self.device.options.update_seconds)
        if self.package.startswith(b"FAIL"):
            self.become(self.DOWNLOADED, self.FAILED)
            return
        values = self.device.tree.instances
        if self.package.startswith(b"FW:"):
            version = self.package[3:].split(b"\n")[0].decode(errors="replace")[:32]
        else:
            head, _, last = values[3][0][3].rpartition(".")
            version = f"{head}.{int(last) + 1}"
        values[3][0][3] = values[5][0][7] = version
        values[5][0][1] = ""
        values[5][0][3], values[5][0][5] = self.IDLE, self.SUCCESS
        self.package = b""
        self.device.tell(event="firmware", state=self.IDLE, result=self.SUCCESS, version=version)
        await self.device.reboot()
