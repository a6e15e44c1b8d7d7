"""Formats of LwM2M, in both directions: [OMA-TS-LightweightM2M 1.0.2, 6.4] [Core 1.1 and 1.2, 7.4].

`encode` takes records, `decode` gives them. Kinds come from the definitions, as TLV, text and CBOR do not
carry them; a resource nobody defined keeps what was read, and its kind is None.
"""

import base64
import datetime
import json
import struct

import cbor2

from .model import Record, text_of

TEXT, LINK, OPAQUE, CBOR = 0, 40, 42, 60
SENML_JSON, SENML_CBOR, TLV, JSON, LWM2M_CBOR = 110, 112, 11542, 11543, 11544
SENML_ETCH_JSON, SENML_ETCH_CBOR = 320, 322
NAMES = {
    "text": TEXT, "opaque": OPAQUE, "cbor": CBOR, "senml-json": SENML_JSON, "senml-cbor": SENML_CBOR,
    "tlv": TLV, "json": JSON, "lwm2m-cbor": LWM2M_CBOR,
}  # fmt: skip
# One value only.
SINGLE = (TEXT, OPAQUE, CBOR)


class FormatError(Exception):
    """The payload is not what its format says."""


def supported(version):
    """Formats of values that a client of this version knows."""
    if version == "1.0":
        return {TEXT, OPAQUE, TLV, JSON}
    known = {TEXT, OPAQUE, TLV, JSON, CBOR, SENML_JSON, SENML_CBOR}
    return known | {LWM2M_CBOR} if version == "1.2" else known


def encode(form, path, records, multiple, slash_leads=False):
    """The payload for an answer to a request for `path`. `multiple`: the resource there has instances."""
    if form in SINGLE:
        return _encode_single(form, records[0])
    if form == TLV:
        return encode_tlv(path, records, multiple)
    if form == JSON:
        return encode_json(path, records)
    if form in (SENML_JSON, SENML_CBOR):
        return encode_senml(form, records, base=path, slash_leads=slash_leads)
    if form == LWM2M_CBOR:
        return encode_lwm2m_cbor(records)
    raise FormatError(f"format {form}")


def decode(form, payload, path, kind_of):
    """The records of a payload that is written to `path`."""
    try:
        if form in SINGLE:
            return [_decode_single(form, payload, path, kind_of(path))]
        if form == TLV:
            return decode_tlv(payload, path, kind_of)
        if form == JSON:
            return decode_json(payload, path, kind_of)
        if form in (SENML_JSON, SENML_CBOR, SENML_ETCH_JSON, SENML_ETCH_CBOR):
            return [_record(each["path"], each["value"], kind_of) for each in decode_senml(form, payload)]
        if form == LWM2M_CBOR:
            return [_record(where, value, kind_of) for where, value in decode_lwm2m_cbor(payload)]
    except FormatError:
        raise
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        EOFError,
        struct.error,
        cbor2.CBORError,
    ) as error:
        raise FormatError(f"{type(error).__name__}: {error}") from error
    raise FormatError(f"format {form}")


def _record(path, value, kind_of):
    kind = kind_of(path)
    return Record(path, coerce(value, kind), kind)


def coerce(value, kind):
    """A value of JSON or CBOR as the definition wants it."""
    if isinstance(value, datetime.datetime):
        value = int(value.timestamp())
    whole = isinstance(value, int) and not isinstance(value, bool)
    if kind in ("integer", "unsigned", "time") and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind == "float" and whole:
        return float(value)
    fits = {
        "string": isinstance(value, str),
        "corelnk": isinstance(value, str),
        "objlnk": isinstance(value, str) and len(value.split(":")) == 2,
        "integer": whole,
        "unsigned": whole and value >= 0,
        "time": whole,
        "float": isinstance(value, float),
        "boolean": isinstance(value, bool),
        "opaque": isinstance(value, bytes),
        None: True,
    }
    if not fits.get(kind, False):
        raise FormatError(f"{value!r} is no {kind}")
    return value


# Text, opaque, CBOR: one value. [1.0.2, 6.4.1, 6.4.2] [1.1, 7.4.1 to 7.4.3]


def _encode_single(form, record):
    if form == OPAQUE:
        if record.kind != "opaque":
            raise FormatError("only opaque values go as octets")
        return record.value
    if form == CBOR:
        return cbor2.dumps(record.value)
    if record.kind == "boolean":
        return b"1" if record.value else b"0"
    if record.kind == "opaque":
        return base64.b64encode(record.value)
    return str(record.value).encode()


def _decode_single(form, payload, path, kind):
    if form == OPAQUE:
        # The data type decides: octets are no text and no number.
        return Record(path, coerce(payload, kind), kind)
    if form == CBOR:
        return Record(path, coerce(cbor2.loads(payload), kind), kind)
    text = payload.decode()
    if kind in ("integer", "unsigned", "time"):
        value = int(text)
    elif kind == "float":
        value = float(text)
    elif kind == "boolean":
        if text not in ("0", "1"):
            raise FormatError("no boolean")
        value = text == "1"
    elif kind == "opaque":
        value = base64.b64decode(text, validate=True)
    else:
        value = text
    return Record(path, coerce(value, kind), kind)


# TLV. [1.0.2, 6.4.3] [1.1, 7.4.5]

INSTANCE, RESOURCE_INSTANCE, MULTIPLE, RESOURCE = 0, 1, 2, 3


def _tlv_integer(value):
    for size, code in ((1, "b"), (2, "h"), (4, "i"), (8, "q")):
        if -(1 << (8 * size - 1)) <= value < 1 << (8 * size - 1):
            return struct.pack(">" + code, value)
    raise FormatError("an integer has 64 bits")


def _tlv_value(record):
    value, kind = record.value, record.kind
    if kind == "boolean":
        return b"\x01" if value else b"\x00"
    if kind in ("integer", "time"):
        return _tlv_integer(value)
    if kind == "unsigned":
        return value.to_bytes(next(size for size in (1, 2, 4, 8) if value < 1 << 8 * size), "big")
    if kind == "float":
        short = struct.pack(">f", value)
        return short if struct.unpack(">f", short)[0] == value else struct.pack(">d", value)
    if kind == "objlnk":
        return struct.pack(">HH", *map(int, value.split(":")))
    return value if isinstance(value, bytes) else str(value).encode()


def tlv(kind, number, value):
    """One TLV."""
    head = kind << 6 | (0x20 if number > 255 else 0)
    name = struct.pack(">H", number) if number > 255 else bytes([number])
    size = len(value)
    if size < 8:
        return bytes([head | size]) + name + value
    width = 1 if size < 1 << 8 else 2 if size < 1 << 16 else 3
    return bytes([head | width << 3]) + name + size.to_bytes(width, "big") + value


def encode_tlv(path, records, multiple):
    def resources(of):
        """The resources of one instance."""
        out = b""
        for number in dict.fromkeys(record.path[2] for record in of):
            here = [record for record in of if record.path[2] == number]
            if len(here[0].path) == 4:
                inner = b"".join(tlv(RESOURCE_INSTANCE, each.path[3], _tlv_value(each)) for each in here)
                out += tlv(MULTIPLE, number, inner)
            else:
                out += tlv(RESOURCE, number, _tlv_value(here[0]))
        return out

    if len(path) == 4:
        return tlv(RESOURCE_INSTANCE, path[3], _tlv_value(records[0]))
    if len(path) == 3 and multiple and not records:
        return tlv(MULTIPLE, path[2], b"")
    if len(path) >= 2:
        return resources(records)
    instances = dict.fromkeys(record.path[1] for record in records)
    return b"".join(
        tlv(INSTANCE, number, resources([each for each in records if each.path[1] == number])) for number in instances
    )


def parse_tlv(payload):
    """A list of (kind, number, value)."""
    found, at = [], 0
    while at < len(payload):
        head = payload[at]
        at += 1
        width = 2 if head & 0x20 else 1
        number = int.from_bytes(payload[at : at + width], "big")
        at += width
        lengths = head >> 3 & 3
        size = int.from_bytes(payload[at : at + lengths], "big") if lengths else head & 7
        at += lengths
        if at + size > len(payload):
            raise FormatError("a TLV ends early")
        found.append((head >> 6, number, payload[at : at + size]))
        at += size
    return found


def _from_tlv(raw, kind):
    if kind in ("integer", "time"):
        if len(raw) not in (1, 2, 4, 8):
            raise FormatError("an integer of odd size")
        return int.from_bytes(raw, "big", signed=True)
    if kind == "unsigned":
        return int.from_bytes(raw, "big")
    if kind == "float":
        return struct.unpack(">f" if len(raw) == 4 else ">d", raw)[0]
    if kind == "boolean":
        if raw not in (b"\x00", b"\x01"):
            raise FormatError("no boolean")
        return raw == b"\x01"
    if kind == "objlnk":
        return "{}:{}".format(*struct.unpack(">HH", raw))
    return raw if kind in ("opaque", None) else raw.decode()


def decode_tlv(payload, path, kind_of):
    records = []

    def resource(where, form, number, value):
        here = where + (number,)
        if form == RESOURCE:
            records.append(Record(here, _from_tlv(value, kind_of(here)), kind_of(here)))
        elif form == MULTIPLE:
            for inner, each, raw in parse_tlv(value):
                if inner != RESOURCE_INSTANCE:
                    raise FormatError("a multiple resource holds resource instances")
                records.append(Record(here + (each,), _from_tlv(raw, kind_of(here)), kind_of(here)))
        else:
            raise FormatError("a resource was expected")

    for form, number, value in parse_tlv(payload):
        if form == INSTANCE:
            if not path or (len(path) > 1 and path[1:] != (number,)):
                raise FormatError("an instance of somewhere else")
            for inner in parse_tlv(value):
                resource((path[0], number), *inner)
        elif form == RESOURCE_INSTANCE:
            where = path[:3] + (number,)
            if len(path) < 3 or (len(path) == 4 and where != path):
                raise FormatError("a resource instance of somewhere else")
            records.append(Record(where, _from_tlv(value, kind_of(where)), kind_of(where)))
        elif len(path) == 2:
            resource(path, form, number, value)
        elif len(path) >= 3 and number == path[2]:
            resource(path[:2], form, number, value)
        else:
            raise FormatError("a resource of no instance")
    return records


def tlv_instance(payload):
    """The instance that a Create names, or None; the TLVs of its resources."""
    found = parse_tlv(payload)
    if found and found[0][0] == INSTANCE:
        if len(found) > 1:
            raise FormatError("one instance is created at a time")
        return found[0][1], found[0][2]
    return None, payload


# LwM2M JSON of 1.0. [1.0.2, 6.4.4]


def _base(path):
    return "/" if not path else text_of(path) + "/"


def encode_json(path, records):
    # Names are relative to the instance, so that a single resource has one too.
    base = path if len(path) != 3 else path[:2]
    base = base if len(base) != 4 else path[:3]
    entries = []
    for record in records:
        name = "/".join(map(str, record.path[len(base) :]))
        key = {"string": "sv", "corelnk": "sv", "opaque": "sv", "boolean": "bv", "objlnk": "ov"}.get(record.kind, "v")
        value = base64.b64encode(record.value).decode() if record.kind == "opaque" else record.value
        entries.append({"n": name, key: value})
    return json.dumps({"bn": _base(base), "e": entries}, separators=(",", ":")).encode()


def decode_json(payload, path, kind_of):
    told = json.loads(payload)
    base = told.get("bn", text_of(path))
    records = []
    for entry in told["e"]:
        where = _parse_name(base, entry.get("n", ""))
        kind = kind_of(where)
        value = next(entry[key] for key in ("v", "bv", "sv", "ov") if key in entry)
        if kind == "opaque":
            value = base64.b64decode(value, validate=True)
        records.append(Record(where, coerce(value, kind), kind))
    return records


def _parse_name(base, name):
    """Base and name are put together; a base without an end gets its slash, as most clients mean it."""
    joined = base if not name else base + name if base.endswith("/") or name.startswith("/") else f"{base}/{name}"
    parts = [part for part in joined.split("/") if part]
    if not all(part.isdigit() and int(part) <= 65535 for part in parts) or len(parts) > 4:
        raise FormatError(f"no path: {joined}")
    return tuple(map(int, parts))


# SenML. [RFC 8428] [1.1, 7.4.4]

# Labels of CBOR. Links to objects have a name also there.
LABELS = {"bn": -2, "bt": -3, "n": 0, "v": 2, "vs": 3, "vb": 4, "t": 6, "vd": 8, "vlo": "vlo"}
WORDS = {label: word for word, label in LABELS.items()}


def _senml_value(record):
    key = {"string": "vs", "corelnk": "vs", "boolean": "vb", "opaque": "vd", "objlnk": "vlo"}.get(record.kind, "v")
    return key, record.value


def encode_senml(form, records, base=None, times=None, base_time=None, slash_leads=False):
    """A pack. With a `base` names are relative to it. `times` has a time or None for each record.

    `slash_leads`: the slash between base and name begins the name, not ends the base; both are allowed.
    """
    items = []
    whole = "/" if not base else text_of(base) if slash_leads else _base(base)
    for index, record in enumerate(records):
        item = {}
        if base is not None and index == 0:
            # The base name of a single value is all of its name.
            item["bn"] = text_of(base) if record.path == base else whole
        if base_time is not None and index == 0:
            item["bt"] = base_time
        name = text_of(record.path) if base is None else "/".join(map(str, record.path[len(base) :]))
        if name:
            item["n"] = "/" + name if slash_leads and base else name
        if times and times[index] is not None:
            item["t"] = times[index]
        key, value = _senml_value(record)
        item[key] = value
        items.append(item)
    if not records and base is not None:
        items.append({"bn": whole})
    return senml_pack(form, items)


def common_path(records):
    """What the paths of all records begin with."""
    first, *others = [record.path for record in records]
    length = len(first)
    for path in others:
        while path[:length] != first[:length]:
            length -= 1
    return first[:length]


def senml_pack(form, items):
    """Bytes of items with the names of JSON; what is opaque is bytes."""
    if form in (SENML_CBOR, SENML_ETCH_CBOR):
        return cbor2.dumps([{LABELS[word]: value for word, value in item.items()} for item in items])

    def plain(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode() if isinstance(value, bytes) else value

    return json.dumps(
        [{key: plain(value) for key, value in item.items()} for item in items], separators=(",", ":")
    ).encode()


def decode_senml(form, payload):
    """A list of {"path", "value", "time"}. Where there is no value the value is None."""
    if form in (SENML_CBOR, SENML_ETCH_CBOR):
        items = [{WORDS.get(label, label): value for label, value in item.items()} for item in cbor2.loads(payload)]
    else:
        items = json.loads(payload)
    found, base, base_time = [], "", 0
    for item in items:
        base = item.get("bn", base)
        base_time = item.get("bt", base_time)
        values = [item[key] for key in ("v", "vs", "vb", "vlo") if key in item]
        if "vd" in item:
            raw = item["vd"]
            values.append(raw if isinstance(raw, bytes) else base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)))
        if len(values) > 1:
            raise FormatError("one record has one value")
        # RFC 8428 puts base and name together as they are.
        path = _parse_name(base + item.get("n", ""), "")
        found.append({"path": path, "value": values[0] if values else None, "time": base_time + item.get("t", 0)})
    return found


# CBOR of LwM2M 1.2: maps in maps. [1.2, 7.4.7]


def encode_lwm2m_cbor(records):
    tree = {}
    for record in records:
        here = tree
        for number in record.path[:-1]:
            here = here.setdefault(number, {})
        here[record.path[-1]] = record.value
    return cbor2.dumps(tree)


def decode_lwm2m_cbor(payload):
    """A list of (path, value). A key may be one number or a list of them."""
    found = []

    def walk(prefix, value):
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(prefix + (tuple(key) if isinstance(key, (tuple, list)) else (key,)), inner)
        else:
            found.append((prefix, value))

    walk((), cbor2.loads(payload))
    if any(len(path) > 4 or not all(isinstance(part, int) for part in path) for path, _ in found):
        raise FormatError("no path")
    return found
