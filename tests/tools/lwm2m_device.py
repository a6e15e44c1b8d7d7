"""A LwM2M device. Commands come as lines of JSON on stdin, events go as lines of JSON to stdout.

    lwm2m_device.py --server coap://127.0.0.1:5783 --endpoint dev1 [options]

Nothing is sent before a command says so, unless --start is given. A value in a command is a JSON value,
or {"hex": "00ff"} for an opaque one.

--habit anjay: objects with versions and no root link, b left out when it is U, SenML CBOR with the slash in front of
the name, Send with a base time, confirmable notifications. --habit wakaama: the root link with ct=112, TLV, text for
single values, notifications that are not confirmable. Without it: what the specification shows.

Commands:
    {"do": "register"}                                  registered | refused | error
    {"do": "update", "lifetime": 60, "binding": "UQ", "links": true}      updated; on 4.04 registers again
    {"do": "deregister"}                                deregistered
    {"do": "set", "path": "/3303/0/5700", "value": 1.5} tells who observes, when the attributes say so
    {"do": "notify", "path": "/3/0", "confirmable": true}                 notifies now, changed or not
    {"do": "send", "records": [{"path": "/3/0/9", "value": 1, "time": 5}], "format": "senml-json"}     sent
    {"do": "sleep"} / {"do": "wake", "update": true}    asleep: nothing comes in, nothing is sent by timers
    {"do": "move", "port": 0}                           another local port; moved
    {"do": "fail", "path": "/3/0/0" or "*", "code": "5.00", "times": 1}   without a code: not any more
    {"do": "separate", "seconds": 0.5, "requests": 1}   empty ACK first; 0 seconds: not any more
    {"do": "slow", "path": "/3/0/0", "seconds": 2}      its operations take that long; 0 seconds: not any more
    {"do": "silent", "requests": 1} or {"do": "silent", "datagrams": 1}   ignores them
    {"do": "get", "path": "/5/0/3"}                     value
    {"do": "reboot"}                                    rebooted, registered
    {"do": "bootstrap"} / {"do": "bootstrap-pack", "format": "senml-cbor"}   bootstrapping, bootstrapped, registered
    {"do": "quit"}                                      ends at once; so does the end of stdin
What exchanges messages (register to deregister, send, wake, move, reboot, bootstrap) is done one after the other,
all else at once when it is read. Each command that is done tells {"event": "done", "do": ...}.

Events not named above: ready (port), request, answered, block, duplicate, reused (a message id), ignored, dropped, stranger, notified,
notification (outcome acked | reset | timeout), executed, firmware (state, result), package, done, error.
"""

import argparse
import asyncio
import json
import os
import sys

from lwm2m import coap, formats
from lwm2m.device import Device, Options
from lwm2m.model import Refused, path_of

# What a wrong command may lead to.
MISTAKES = (ValueError, KeyError, TypeError, AttributeError, Refused, formats.FormatError, OSError)


def tell(**event):
    try:
        print(json.dumps(event), flush=True)
    except BrokenPipeError:
        # The test has ended.
        os._exit(0)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--server", metavar="URI")
    add("--bootstrap", metavar="URI")
    add("--endpoint", required=True)
    add("--lifetime", type=int, default=300)
    add("--version", choices=["1.0", "1.1", "1.2"], default="1.1")
    add("--binding", default="U")
    add("--queue", action="store_true", help="says Q, or b=UQ for 1.0")
    add("--local-host", default="")
    add("--local-port", type=int, default=0)
    add("--alternate-root", default="/")
    add("--format", choices=sorted(formats.NAMES), help="where Accept leaves the choice")
    add("--identity", help="of DTLS with a pre-shared key")
    add("--key", metavar="HEX")
    add("--habit", choices=["wakaama", "anjay"])
    add("--no-update", action="store_true", help="no Update but those that are commanded or triggered")
    add("--notify", choices=["con", "non"])
    add("--start", action="store_true", help="bootstraps or registers at once")
    add("--block-size", type=int, choices=[16 << each for each in range(7)], default=1024)
    add("--ack-timeout", type=float, default=2.0)
    add("--max-retransmit", type=int, default=4)
    add("--update-seconds", type=float, default=0.3, help="how long a firmware update takes")
    job = parser.parse_args()
    if not job.server and not job.bootstrap:
        parser.error("--server or --bootstrap")
    if bool(job.identity) != bool(job.key):
        parser.error("--identity and --key go together")
    return job


def options_of(job):
    exponent = job.block_size.bit_length() - 5
    return Options(
        endpoint=job.endpoint,
        server=job.server,
        bootstrap=job.bootstrap,
        lifetime=job.lifetime,
        version=job.version,
        binding=job.binding,
        queue=job.queue,
        local_host=job.local_host,
        local_port=job.local_port,
        alternate_root=job.alternate_root,
        format=job.format,
        identity=job.identity,
        key=job.key,
        habit=job.habit,
        updates=not job.no_update,
        notify=job.notify,
        update_seconds=job.update_seconds,
        messages=coap.Settings(job.ack_timeout, job.max_retransmit, exponent),
    )


class Commands:
    """What exchanges messages is done one after the other; all else is done as soon as it is read."""

    def __init__(self, device):
        self.device = device
        self.exchanges = asyncio.Queue()

    def run(self, line):
        """False ends the device."""
        try:
            command = json.loads(line)
            name = command.pop("do")
            if name == "quit":
                return False
            result = getattr(self, "do_" + name.replace("-", "_"))(**command)
        except MISTAKES as error:
            tell(event="error", what=f"{type(error).__name__}: {error}", command=line.strip())
            return True
        if asyncio.iscoroutine(result):
            self.exchanges.put_nowait((name, result))
        else:
            tell(event="done", do=name)
        return True

    def drop(self):
        """What is not begun is left out."""
        while not self.exchanges.empty():
            self.exchanges.get_nowait()[1].close()

    async def work(self):
        while True:
            name, exchange = await self.exchanges.get()
            try:
                await exchange
            except MISTAKES as error:
                tell(event="error", what=f"{type(error).__name__}: {error}", do=name)
            else:
                tell(event="done", do=name)

    def do_register(self):
        return self.device.register()

    def do_update(self, lifetime=None, binding=None, links=False):
        return self.device.update(lifetime, binding, links)

    def do_deregister(self):
        return self.device.deregister()

    def do_set(self, path, value):
        where = path_of(path)
        kind = self.device.tree.kind_of(where)
        if kind is None or where[1] not in self.device.tree.instances[where[0]]:
            raise Refused("4.04", path)
        if isinstance(value, dict) and "hex" not in value:
            self.device.set(where, {int(key): self.device.from_json(each, kind) for key, each in value.items()})
        else:
            self.device.set(where, self.device.from_json(value, kind))

    def do_get(self, path):
        records = self.device.tree.read(path_of(path), everything=True)
        values = {
            "/" + "/".join(map(str, each.path)): {"hex": each.value.hex()}
            if isinstance(each.value, bytes)
            else each.value
            for each in records
        }
        tell(event="value", path=path, values=values)

    def do_notify(self, path, confirmable=None):
        """All observations of the path; of a composite one, any path of it."""
        where = path_of(path)
        found = [each for each in self.device.observer.observations.values() if where in each.paths]
        if not found:
            raise Refused("4.04", f"nobody observes {path}")
        usual = self.device.confirmable_notifications
        try:
            if confirmable is not None:
                self.device.confirmable_notifications = confirmable
            for observation in found:
                self.device.observer.send(observation)
        finally:
            self.device.confirmable_notifications = usual

    def do_send(self, records, format=None):
        return self.device.send(records, format)

    def do_sleep(self):
        self.device.sleep()

    def do_wake(self, update=True):
        return self.device.wake(update)

    async def do_move(self, port=0):
        await self.device.endpoint.move(self.device.options.local_host, port)
        tell(event="moved", port=self.device.endpoint.port)

    def do_fail(self, path, code=None, times=None):
        if code is None:
            self.device.failures.pop(path, None)
        else:
            coap.code_of(code)
            self.device.failures[path] = (code, times)

    def do_separate(self, seconds, requests=None):
        self.device.endpoint.separate_seconds = seconds or None
        self.device.endpoint.separate_requests = requests

    def do_slow(self, path, seconds):
        self.device.slowness[path] = seconds

    def do_silent(self, requests=0, datagrams=0):
        self.device.endpoint.silent_requests = requests
        self.device.endpoint.silent_datagrams = datagrams

    def do_reboot(self):
        return self.device.reboot()

    def do_bootstrap(self):
        return self.device.bootstrap()

    def do_bootstrap_pack(self, format="senml-cbor"):
        return self.device.bootstrap_pack(formats.NAMES[format])


async def main():
    job = arguments()
    device = Device(options_of(job), tell)
    await device.open()
    commands = Commands(device)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    if job.start:
        device.endpoint.spawn(device.bootstrap() if job.bootstrap else device.register())
    device.endpoint.spawn(commands.work())
    while line := await reader.readline():
        if line.strip() and not commands.run(line.decode()):
            break
    commands.drop()
    device.endpoint.close()


if __name__ == "__main__":
    asyncio.run(main())
