"""The data model of the device: objects, instances, resources, resource instances.

A path is a tuple of numbers: () is the root, (3, 0, 6, 1) a resource instance.
A value is a str, int, float, bool or bytes; a resource that may be there several times is a dict of them.
A record is one value with its path and its kind.
"""

import copy
import dataclasses
import time

READABLE, WRITABLE, EXECUTABLE = "R", "W", "E"
NUMERIC = ("integer", "unsigned", "float", "time")


class Refused(Exception):
    """The answer is an error. `code` is written as in the specification: "4.04"."""

    def __init__(self, code, why=""):
        super().__init__(f"{code} {why}")
        self.code = code
        self.why = why


@dataclasses.dataclass(frozen=True)
class Record:
    path: tuple
    value: object
    kind: str


@dataclasses.dataclass(frozen=True)
class Resource:
    id: int
    name: str
    kind: str
    operations: str
    multiple: bool = False
    mandatory: bool = False


class Object:
    """What the registry says of an object. `creatable` objects have a changing number of instances."""

    def __init__(self, number, name, version, creatable, *resources):
        self.id, self.name, self.version, self.creatable = number, name, version, creatable
        self.resources = {each.id: each for each in resources}


def text_of(path):
    return "/" + "/".join(map(str, path))


def path_of(text):
    """The path of "/3/0/0". Anything but numbers is not found."""
    parts = [part for part in text.split("/") if part]
    if len(parts) > 4 or not all(part.isascii() and part.isdigit() and int(part) <= 65535 for part in parts):
        raise Refused("4.04", f"no path: {text}")
    return tuple(map(int, parts))


def standard_objects(version):
    """The objects of the device. What came with LwM2M 1.1 is left out for 1.0."""
    newer = version != "1.0"
    r = Resource
    security = Object(
        0, "Security", "1.1" if newer else None, True,
        r(0, "Server URI", "string", "", mandatory=True),
        r(1, "Bootstrap-Server", "boolean", "", mandatory=True),
        r(2, "Security Mode", "integer", "", mandatory=True),
        r(3, "Public Key or Identity", "opaque", ""),
        r(4, "Server Public Key", "opaque", ""),
        r(5, "Secret Key", "opaque", ""),
        r(10, "Short Server ID", "integer", ""),
        r(11, "Client Hold Off Time", "integer", ""),
    )  # fmt: skip
    server = Object(
        1, "Server", "1.1" if newer else None, True,
        r(0, "Short Server ID", "integer", "R", mandatory=True),
        r(1, "Lifetime", "integer", "RW", mandatory=True),
        r(2, "Default Minimum Period", "integer", "RW"),
        r(3, "Default Maximum Period", "integer", "RW"),
        r(4, "Disable", "none", "E"),
        r(5, "Disable Timeout", "integer", "RW"),
        r(6, "Notification Storing", "boolean", "RW", mandatory=True),
        r(7, "Binding", "string", "RW", mandatory=True),
        r(8, "Registration Update Trigger", "none", "E"),
        *([r(9, "Bootstrap-Request Trigger", "none", "E"), r(23, "Mute Send", "boolean", "RW")] if newer else []),
    )  # fmt: skip
    device = Object(
        3, "Device", "1.1" if newer else None, False,
        r(0, "Manufacturer", "string", "R"),
        r(1, "Model Number", "string", "R"),
        r(2, "Serial Number", "string", "R"),
        r(3, "Firmware Version", "string", "R"),
        r(4, "Reboot", "none", "E", mandatory=True),
        r(5, "Factory Reset", "none", "E"),
        r(6, "Available Power Sources", "integer", "R", multiple=True),
        r(7, "Power Source Voltage", "integer", "R", multiple=True),
        r(8, "Power Source Current", "integer", "R", multiple=True),
        r(9, "Battery Level", "integer", "R"),
        r(10, "Memory Free", "integer", "R"),
        r(11, "Error Code", "integer", "R", multiple=True, mandatory=True),
        r(12, "Reset Error Code", "none", "E"),
        r(13, "Current Time", "time", "RW"),
        r(14, "UTC Offset", "string", "RW"),
        r(15, "Timezone", "string", "RW"),
        r(16, "Supported Binding", "string", "R", mandatory=True),
        r(17, "Device Type", "string", "R"),
        r(18, "Hardware Version", "string", "R"),
        r(20, "Battery Status", "integer", "R"),
        r(21, "Memory Total", "integer", "R"),
    )  # fmt: skip
    connectivity = Object(
        4, "Connectivity Monitoring", None, False,
        r(0, "Network Bearer", "integer", "R", mandatory=True),
        r(1, "Available Network Bearer", "integer", "R", multiple=True, mandatory=True),
        r(2, "Radio Signal Strength", "integer", "R", mandatory=True),
        r(4, "IP Addresses", "string", "R", multiple=True, mandatory=True),
        r(7, "APN", "string", "R", multiple=True),
    )  # fmt: skip
    firmware = Object(
        5, "Firmware Update", None, False,
        r(0, "Package", "opaque", "W", mandatory=True),
        r(1, "Package URI", "string", "RW", mandatory=True),
        r(2, "Update", "none", "E", mandatory=True),
        r(3, "State", "integer", "R", mandatory=True),
        r(5, "Update Result", "integer", "R", mandatory=True),
        r(6, "PkgName", "string", "R"),
        r(7, "PkgVersion", "string", "R"),
        r(8, "Firmware Update Protocol Support", "integer", "R", multiple=True),
        r(9, "Firmware Update Delivery Method", "integer", "R", mandatory=True),
    )  # fmt: skip
    location = Object(
        6, "Location", None, False,
        r(0, "Latitude", "float", "R", mandatory=True),
        r(1, "Longitude", "float", "R", mandatory=True),
        r(2, "Altitude", "float", "R"),
        r(5, "Timestamp", "time", "R", mandatory=True),
        r(6, "Speed", "float", "R"),
    )  # fmt: skip
    temperature = Object(
        3303, "Temperature", "1.1", True,
        r(5700, "Sensor Value", "float", "R", mandatory=True),
        r(5701, "Sensor Units", "string", "R"),
        r(5601, "Min Measured Value", "float", "R"),
        r(5602, "Max Measured Value", "float", "R"),
        r(5603, "Min Range Value", "float", "R"),
        r(5604, "Max Range Value", "float", "R"),
        r(5605, "Reset Min and Max Measured Values", "none", "E"),
        r(5750, "Application Type", "string", "RW"),
    )  # fmt: skip
    # No registry knows it: who reads it must do without a definition.
    private = Object(
        32769, "Private", None, True,
        r(0, "Text", "string", "RW", mandatory=True),
        r(1, "Integer", "integer", "RW"),
        r(2, "Opaque", "opaque", "RW"),
        r(3, "Run", "none", "E"),
        r(4, "Float", "float", "RW"),
        r(5, "Boolean", "boolean", "RW"),
        r(6, "Time", "time", "RW"),
        r(7, "Link", "objlnk", "RW"),
        r(8, "Texts", "string", "RW", multiple=True),
        r(9, "Secret", "string", "W"),
    )  # fmt: skip
    all_of_them = (security, server, device, connectivity, firmware, location, temperature, private)
    return {each.id: each for each in all_of_them}


def initial_values(binding):
    """Instances of a new device. Security and Server come from the command line or the bootstrap server."""
    return {
        0: {},
        1: {},
        3: {
            0: {
                0: "Headgate", 1: "Simulator", 2: "SIM-0001", 3: "1.0.0", 6: {0: 1, 1: 5}, 7: {0: 3800, 1: 5000},
                8: {0: 125, 1: 900}, 9: 100, 10: 15, 11: {0: 0}, 13: None, 14: "+02:00", 15: "Europe/Berlin",
                16: binding, 17: "test device", 18: "rev A", 20: 0, 21: 64,
            }
        },
        4: {0: {0: 0, 1: {0: 0, 1: 21}, 2: -71, 4: {0: "192.0.2.7"}, 7: {0: "internet"}}},
        5: {0: {1: "", 3: 0, 5: 0, 6: "firmware", 7: "1.0.0", 8: {0: 0}, 9: 2}},
        6: {0: {0: 52.52, 1: 13.405, 2: 34.0, 5: 1700000000, 6: 0.0}},
        3303: {
            0: {5700: 21.5, 5701: "Cel", 5601: 21.5, 5602: 21.5, 5603: -40.0, 5604: 125.0, 5750: "indoor"},
            1: {5700: 4.25, 5701: "Cel", 5601: 4.25, 5602: 4.25, 5603: -40.0, 5604: 125.0, 5750: "outdoor"},
        },
        32769: {
            0: {
                0: "hello", 1: 42, 2: b"\x00\x01\x02\xff", 4: 0.1, 5: True, 6: 1700000000, 7: "3303:1",
                8: {0: "zero", 3: "three"},
            }
        },
    }  # fmt: skip


class Tree:
    """Objects and their values. Reading and writing check what the definition allows."""

    def __init__(self, version, binding):
        self.version = version
        self.objects = standard_objects(version)
        self.instances = initial_values(binding)
        # The clock of the device runs this much before the one of this machine.
        self.clock_offset = 0

    # Looking up.

    def definition(self, path):
        """The definition of the resource at a path of three parts or more; None if there is none."""
        known = self.objects.get(path[0])
        return known.resources.get(path[2]) if known and len(path) > 2 else None

    def kind_of(self, path):
        definition = self.definition(path)
        return definition.kind if definition else None

    def exists(self, path):
        if not path:
            return True
        if path[0] not in self.objects:
            return False
        if len(path) == 1:
            return True
        instance = self.instances.get(path[0], {}).get(path[1])
        if instance is None or len(path) == 2:
            return instance is not None
        definition = self.definition(path)
        if definition is None:
            return False
        if len(path) == 3:
            # What can be executed has no value, and a written one may have been kept nowhere.
            return path[2] in instance or EXECUTABLE in definition.operations or WRITABLE in definition.operations
        values = instance.get(path[2])
        return isinstance(values, dict) and path[3] in values

    def require(self, path):
        if len(path) == 4 and self.version == "1.0":
            raise Refused("4.04", "no resource instances in 1.0")
        if not self.exists(path):
            raise Refused("4.04", text_of(path))

    def value(self, path):
        found = self.instances[path[0]][path[1]].get(path[2])
        if path[:3] == (3, 0, 13):
            found = int(time.time()) + self.clock_offset
        return found[path[3]] if len(path) == 4 else found

    def children(self, path):
        """Identifiers below a path, in order."""
        if len(path) == 0:
            return sorted(self.objects)
        if len(path) == 1:
            return sorted(self.instances.get(path[0], {}))
        if len(path) == 2:
            instance = self.instances[path[0]][path[1]]
            executables = [r.id for r in self.objects[path[0]].resources.values() if EXECUTABLE in r.operations]
            written = [r.id for r in self.objects[path[0]].resources.values() if r.operations == WRITABLE]
            return sorted({*instance, *executables, *written})
        values = self.instances[path[0]][path[1]].get(path[2])
        return sorted(values) if isinstance(values, dict) else []

    # Reading.

    def read(self, path, everything=False):
        """Records at and below a path. `everything`: by the bootstrap server, which may read all."""
        self.require(path)
        if len(path) < 3:
            below = [path + (each,) for each in self.children(path)]
            return [record for each in below for record in self._read_if_readable(each, everything)]
        definition = self.definition(path)
        if READABLE not in definition.operations and not everything:
            raise Refused("4.05", "not readable")
        value = self.value(path)
        if value is None:
            raise Refused("4.04", "no value")
        if isinstance(value, dict):
            return [Record(path + (each,), value[each], definition.kind) for each in sorted(value)]
        return [Record(path, value, definition.kind)]

    def _read_if_readable(self, path, everything):
        if len(path) == 3:
            operations = self.definition(path).operations
            missing = self.instances[path[0]][path[1]].get(path[2]) is None and path != (3, 0, 13)
            if missing or (READABLE not in operations and not everything):
                return []
        return self.read(path, everything)

    # Writing. Either all of it is done or nothing is.

    def check_write(self, records, everything=False):
        for record in records:
            if len(record.path) < 3:
                raise Refused("4.00", "a value for what has none")
            definition = self.definition(record.path)
            if definition is None:
                raise Refused("4.04", text_of(record.path))
            if WRITABLE not in definition.operations and not everything:
                raise Refused("4.05", f"{text_of(record.path)} is not writable")
            if EXECUTABLE in definition.operations:
                raise Refused("4.05", f"{text_of(record.path)} is executable")
            if (len(record.path) == 4) != definition.multiple and not isinstance(record.value, dict):
                raise Refused("4.00", f"{text_of(record.path)}: single and multiple are mixed up")

    def write(self, path, records, replace, everything=False):
        """Writes records below `path`. Returns the paths of the resources that changed."""
        self.check_write(records, everything)
        if any(record.path[: len(path)] != path for record in records):
            raise Refused("4.00", "a record of somewhere else")
        if replace and len(path) == 2:
            self._clear(path, everything)
        if replace and len(path) == 3 and self.definition(path).multiple:
            self.instances[path[0]][path[1]][path[2]] = {}
        replaced = set()
        for record in records:
            instance = self.instances.setdefault(record.path[0], {}).setdefault(record.path[1], {})
            if record.path[:3] == (3, 0, 13):
                self.clock_offset = record.value - int(time.time())
                continue
            if len(record.path) == 4:
                if replace and len(path) == 2 and record.path[:3] not in replaced:
                    instance[record.path[2]] = {}
                    replaced.add(record.path[:3])
                instance.setdefault(record.path[2], {})[record.path[3]] = record.value
            else:
                instance[record.path[2]] = record.value
        changed = sorted({record.path[:3] for record in records})
        return changed or ([path] if len(path) > 1 else [])

    def _clear(self, path, everything):
        """Replacing an instance takes away what may be written and need not be there."""
        instance = self.instances[path[0]].setdefault(path[1], {})
        for number in list(instance):
            definition = self.objects[path[0]].resources[number]
            if everything or (WRITABLE in definition.operations and not definition.mandatory):
                del instance[number]

    def set(self, path, value):
        """Changes a value from inside: nothing is forbidden."""
        if len(path) == 4:
            self.instances[path[0]][path[1]].setdefault(path[2], {})[path[3]] = value
        else:
            self.instances[path[0]][path[1]][path[2]] = value

    # Creating and deleting.

    def free_instance(self, number):
        taken = self.instances.get(number, {})
        return next(each for each in range(65535) if each not in taken)

    def create(self, number, instance, records):
        known = self.objects.get(number)
        if known is None:
            raise Refused("4.04", f"no object {number}")
        if not known.creatable or number in (0, 1):
            raise Refused("4.05", f"no instances of {number} can be created")
        if instance in self.instances[number]:
            raise Refused("4.00", "the instance is there")
        # Who creates an instance gives also what can only be read afterwards.
        self.check_write(records, everything=True)
        before = copy.deepcopy(self.instances[number])
        try:
            self.instances[number][instance] = {}
            self.write((number, instance), records, replace=False, everything=True)
        except Refused:
            self.instances[number] = before
            raise

    def delete(self, path):
        self.require(path)
        if len(path) == 4:
            definition = self.definition(path)
            if self.version in ("1.0", "1.1") or WRITABLE not in definition.operations:
                raise Refused("4.05", "this resource instance stays")
            del self.instances[path[0]][path[1]][path[2]][path[3]]
            return
        if len(path) != 2 or not self.objects[path[0]].creatable or path[0] in (0, 1):
            raise Refused("4.05", "only instances are deleted")
        del self.instances[path[0]][path[1]]
