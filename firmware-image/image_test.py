"""Boots the appliance in QEMU and updates it by sticks, and looks from outside whether the gateway keeps what it promised.

    image_test.py IMAGE U-BOOT FOLDER VERSION ROUNDS CASES KEYS

QEMU is killed for a power cut: what the guest has written is on its disk (image_disk.py), and what it has not is lost. In some rounds of the case `random`
the disk also forgets, by chance, what was not flushed.
"""

import base64
import http.client
import http.server
import json
import os
import pathlib
import random
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from image_disk import SECTOR, Disk, Write, partitions
from image_modem import MACHINE, PROVIDER, Modem

IMAGE, UBOOT, FOLDER = (pathlib.Path(path) for path in sys.argv[1:4])
VERSION, ROUNDS, CASES, KEYS = sys.argv[4], int(sys.argv[5]), sys.argv[6].split(","), pathlib.Path(sys.argv[7])
DISK_BYTES = 1 << 30
PATIENCE = 900  # seconds: emulation on a busy machine
USER, PASSWORD = "plant", "a password of this test"
ENVIRONMENT_BYTES = 0x4000  # of each copy
IDLE_SECONDS = 600
IDLE_BYTES = 128 * 1024  # the time, once, with ext4's journal
BEGAN = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - BEGAN:6.0f} s] {text}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Failed(Exception):
    pass


class Machine:
    """The board: a disk that stays, and power."""

    def __init__(self, image: pathlib.Path):
        self.image = image
        self.disk = Disk(image, FOLDER / "nbd")
        self.console = FOLDER / "console.log"
        self.console.write_text("")
        self.mqtt, self.ui = free_port(), free_port()
        self.qemu = None
        self.seen = 0  # of the console
        self.sticks = 0
        self.network: list[str] = []  # for QEMU; none: one card without a way out
        self.events: list[str] = []  # QEMU's

    def power_on(self, *more: str) -> None:
        self.disk.power_on()
        self.on_since = time.monotonic()
        monitor = FOLDER / "qmp"
        monitor.unlink(missing_ok=True)
        network = self.network or ["-netdev", f"user,id=n,restrict=on,{self.forwarded()}", "-device", "virtio-net-device,netdev=n"]
        self.qemu = subprocess.Popen(
            # Without a seed for the kernel's place in memory: with one it changes page tables at each system call, which QEMU answers with an empty TLB.
            ["qemu-system-aarch64", "-M", "virt,dtb-randomness=off", "-cpu", "cortex-a53", "-smp", "2", "-m", "512", "-display", "none", "-monitor", "none",
             "-bios", str(UBOOT), "-chardev", f"file,id=c,path={self.console},append=on", "-serial", "chardev:c",
             "-qmp", f"unix:{monitor},server=on,wait=off", "-device", "qemu-xhci,id=usb", "-device", "i6300esb",
             "-drive", f"if=none,id=d,file=nbd:unix:{self.disk.path},format=raw", "-device", "virtio-blk-device,drive=d",
             *network, "-device", "virtio-rng-device", *more],
            stderr=(FOLDER / "qemu.log").open("a"),
        )  # fmt: skip
        deadline = time.monotonic() + 20
        self.control = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.control.connect(str(monitor))
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise Failed(f"QEMU does not start: {(FOLDER / 'qemu.log').read_text()}") from None
                time.sleep(0.1)
        self.lines = self.control.makefile("rw")
        self.lines.readline()
        self.ask("qmp_capabilities")

    def forwarded(self) -> str:
        """How clients of this test come in."""
        return f"hostfwd=tcp:127.0.0.1:{self.mqtt}-:1883,hostfwd=tcp:127.0.0.1:{self.ui}-:18083"

    def ask(self, command: str, **arguments) -> None:
        self.lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.lines.flush()
        while True:
            answer = json.loads(self.lines.readline())
            if "event" in answer:
                self.events.append(answer["event"])
            if "error" in answer:
                raise Failed(f"QEMU: {command}: {answer['error']}")
            if "return" in answer:
                return

    def waited(self) -> float:
        """Seconds for which its busiest thread was ready and had no processor of this machine's: on a busy machine, time that is not the system's."""
        times = [task.read_text().split() for task in pathlib.Path(f"/proc/{self.qemu.pid}/task").glob("*/schedstat")]
        _, wait = max((int(ran), int(wait)) for ran, wait, _ in times)
        return wait / 1e9

    def emulated(self) -> float:
        """Seconds of processor time that QEMU had, of all its processors."""
        fields = pathlib.Path(f"/proc/{self.qemu.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cut(self) -> int:
        """The power, at once. How many writes the disk has forgotten."""
        if not self.qemu:
            return 0
        self.qemu.kill()
        self.qemu.wait()
        self.lines.close()
        self.control.close()
        self.qemu = None
        return self.disk.power_off()

    def plug_in(self, bundle: str) -> None:
        """A stick with this bundle."""
        self.plug_in_file(FOLDER / "bundles" / f"{bundle}.raucb")

    def plug_in_impostor(self) -> None:
        """A stick whose partitions are called like those of the disk."""
        stick = FOLDER / "impostor.img"
        stick.unlink(missing_ok=True)
        subprocess.run(["truncate", "-s", "400M", stick], check=True)
        names = {"boot": 16, "env": 1, "rootfs-A": 112, "rootfs-B": 112, "data": 64}
        table = "label: gpt\n" + "".join(f"size={size}M, name={name}\n" for name, size in names.items())
        subprocess.run(["sfdisk", "-q", stick], check=True, input=table, text=True)
        self.ask("blockdev-add", **{"driver": "raw", "node-name": "impostor", "file": {"driver": "file", "filename": str(stick)}})
        self.ask("device_add", driver="usb-storage", id="dimpostor", drive="impostor", bus="usb.0")
        self.impostor, self.blank = stick, stick.read_bytes()

    def pull_out_impostor(self) -> None:
        self.ask("device_del", id="dimpostor")
        if self.impostor.read_bytes() != self.blank:
            raise Failed("the system has written to a stick whose partitions are called like its own")

    def plug_in_file(self, source: pathlib.Path) -> None:
        stick = FOLDER / "stick.img"
        stick.unlink(missing_ok=True)
        megabytes = source.stat().st_size // (1 << 20) + 8
        subprocess.run(["truncate", "-s", f"{megabytes}M", stick], check=True)
        subprocess.run(["mkfs.vfat", "-n", "HEADGATE", stick], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["mcopy", "-i", stick, source, "::"], check=True)
        self.sticks += 1
        self.stick = f"s{self.sticks}"
        self.ask("blockdev-add", **{"driver": "raw", "node-name": self.stick, "read-only": True, "file": {"driver": "file", "filename": str(stick)}})
        self.ask("device_add", driver="usb-storage", id=f"d{self.stick}", drive=self.stick, bus="usb.0")

    def pull_out(self) -> None:
        self.ask("device_del", id=f"d{self.stick}")

    def text(self) -> str:
        return self.console.read_bytes().decode(errors="replace").replace("\r", "")

    def hears(self, *patterns: str, patience: float = PATIENCE) -> re.Match:
        """Waits for a line on the console, from where the last one was, that has one of these."""
        deadline = time.monotonic() + patience
        wanted = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
        while time.monotonic() < deadline:
            text = self.text()
            found = wanted.search(text, self.seen)
            if found and "\n" in text[found.end() :]:
                self.seen = found.end()
                return found
            if self.qemu.poll() is not None:
                raise Failed("QEMU ended by itself")
            time.sleep(0.2)
        raise Failed(f"nothing of {patterns} on the console within {patience:.0f} s")

    def is_good(self) -> tuple[str, str]:
        """Version and slot, once this system calls itself good."""
        found = self.hears(r"headgate: (\S+) in slot ([AB]) is good", r"headgate: \S+ in slot . is not well.*")
        if not found.group(1):
            raise Failed(found.group(0))
        return found.group(1), found.group(2)


def sign(text: str, key: pathlib.Path) -> pathlib.Path:
    """A provisioning file as `headgate provision sign` makes it, by another program: docs/appliance.md."""
    content, signature = FOLDER / "provisioning.content", FOLDER / "provisioning.signature"
    content.write_text(f"# headgate provisioning 1\n{text}")
    subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", content, "-out", signature], check=True)
    signed = FOLDER / "headgate-provisioning.toml"
    signed.write_text(f"{content.read_text()}# signature {base64.b64encode(signature.read_bytes()).decode()}\n")
    return signed


class Cloud:
    """A broker of this machine, to which the gateway has a bridge, and a client that hears all of it."""

    def __init__(self):
        self.port = free_port()
        self.heard: list[str] = []
        folder = FOLDER / "cloud"
        folder.mkdir(exist_ok=True)
        (folder / "mosquitto.conf").write_text(f"listener {self.port} 0.0.0.0\nallow_anonymous true\n")
        log = (folder / "mosquitto.log").open("a")
        self.broker = subprocess.Popen(["mosquitto", "-c", folder / "mosquitto.conf"], stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise Failed("mosquitto does not start") from None
                time.sleep(0.1)
        self.client = subprocess.Popen(["mosquitto_sub", "-h", "127.0.0.1", "-p", str(self.port), "-q", "1", "-t", "plant/#"], stdout=subprocess.PIPE, text=True)
        threading.Thread(target=lambda: self.heard.extend(line.rstrip("\n") for line in self.client.stdout), daemon=True).start()

    def hears(self, wanted: list[str], patience: float = 300) -> None:
        """Every one of them, in their order; at least once."""
        deadline = time.monotonic() + patience
        while list(dict.fromkeys(text for text in self.heard if text in wanted)) != wanted:
            if time.monotonic() > deadline:
                raise Failed(f"of {wanted} the cloud has {self.heard}")
            time.sleep(0.2)

    def close(self) -> None:
        for process in (self.client, self.broker):
            process.terminate()
            process.wait()


def own_address() -> str:
    """Of this machine, as its network knows it: nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))
        return probe.getsockname()[0]


class Plant:
    """What lives beside the gateway: a client with a durable session that is away, and one that speaks."""

    def __init__(self, machine: Machine):
        self.machine = machine
        self.sent: list[str] = []
        self.had: set[str] = set()

    def client(self, name: str, *arguments: str, login: bool = True) -> subprocess.CompletedProcess:
        who = ("-u", USER, "-P", PASSWORD) if login else ()
        command = [f"mosquitto_{name}", "-h", "127.0.0.1", "-p", str(self.machine.mqtt), *who, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def ask(self, method: str, path: str, body: dict, headers: dict) -> tuple[dict, str]:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # a new gateway has a certificate of its own
        connection = http.client.HTTPSConnection("127.0.0.1", self.machine.ui, context=context, timeout=60)
        connection.request(method, f"/api/v1/{path}", json.dumps(body), {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status >= 300:
            raise Failed(f"{method} {path}: {answer.status} {text}")
        return json.loads(text or "{}"), (answer.getheader("set-cookie") or "").partition(";")[0]

    def set_up(self, code: str) -> None:
        """As the wizard does: the first administrator, and a client with a password."""
        session, cookie = self.ask("POST", "setup", {"code": code, "name": "root", "password": "an administrator's password"}, {})
        login = {"cookie": cookie, "x-csrf-token": session["csrf"]}
        self.ask("POST", "users", {"name": USER, "password": PASSWORD}, login)

    def login(self) -> dict:
        session, cookie = self.ask("POST", "session", {"name": "root", "password": "an administrator's password"}, {})
        return {"cookie": cookie, "x-csrf-token": session["csrf"]}

    def subscribe(self) -> None:
        done = self.client("sub", "-i", "away", "-c", "-q", "1", "-t", "plant/#", "-E")
        if done.returncode:
            raise Failed(f"no durable session: {done.stderr}")

    def publish(self, count: int, *arguments: str) -> None:
        for _ in range(count):
            text = f"message {len(self.had) + len(self.sent)}"
            done = self.client("pub", "-q", "1", "-t", "plant/line", "-m", text, *arguments)
            if done.returncode:
                raise Failed(f"a publish was refused: {done.stderr}")
            self.sent.append(text)

    def has_all(self) -> None:
        """The session has every message that was acknowledged, in its order, and nothing that was never sent.

        What the client had before may come again after a power cut: QoS 1 is at least once, and its acknowledgement may not have been on the disk.
        """
        who = ("-h", "127.0.0.1", "-p", str(self.machine.mqtt), "-u", USER, "-P", PASSWORD)
        session = ("-i", "away", "-c", "-q", "1", "-t", "plant/#", "-W", "90")
        heard: list[str] = []
        with subprocess.Popen(["mosquitto_sub", *who, *session], stdout=subprocess.PIPE, text=True) as client:
            for line in client.stdout:
                heard.append(line.rstrip("\n"))
                if set(self.sent) <= set(heard):
                    break
            time.sleep(1)  # its last acknowledgement is on its way
            client.terminate()
        new = list(dict.fromkeys(text for text in heard if text in self.sent))
        strange = [text for text in heard if text not in self.sent and text not in self.had]
        if new != self.sent or strange:
            raise Failed(f"of {self.sent} the session has {new}, and {strange}")
        say(f"the durable session had all {len(new)} messages, in order; {len(heard) - len(new)} came again")
        self.had.update(new)
        self.sent.clear()


class Test:
    def __init__(self):
        FOLDER.mkdir(exist_ok=True)
        disk = FOLDER / "disk.img"
        say("unpacking the image")
        disk.unlink(missing_ok=True)
        subprocess.run(["zstd", "-q", "-d", "-f", "--sparse", IMAGE, "-o", disk], check=True)
        subprocess.run(["truncate", "-s", str(DISK_BYTES), disk], check=True)
        self.machine = Machine(disk)
        self.plant = Plant(self.machine)

    def boots(self) -> None:
        machine = self.machine
        machine.power_on()
        machine.hears("headgate: slot A")
        say(f"U-Boot took slot A {time.monotonic() - machine.on_since:.1f} s after power-on")
        deadline = time.monotonic() + PATIENCE
        while not self.answers():
            if time.monotonic() > deadline:
                raise Failed("the web UI and MQTT do not answer")
            time.sleep(0.5)
        wall, waited = time.monotonic() - machine.on_since, machine.waited()
        self.boot_time = wall - waited
        say(f"the wizard and MQTT answer {wall:.1f} s after power-on, {self.boot_time:.1f} s without waiting for this machine; QEMU was given {machine.emulated():.1f} s of processor time")
        ports = machine.hears(r"headgate: open to the network: tcp ([\d ]*)udp ([\d ]*)")
        tcp, udp = ({int(port) for port in ports.group(at).split()} for at in (1, 2))
        if tcp != {1883, 8883, 18083} or udp - {68, 546}:  # DHCP's client
            raise Failed(f"not only the gateway listens: {ports.group(0)}")
        say(ports.group(0).removeprefix("headgate: "))
        version, slot = machine.is_good()
        code = machine.hears(r"headgate: set-up code (\S+?):? ").group(1)
        if (version, slot) != (VERSION, "A"):
            raise Failed(f"{version} in slot {slot} runs")
        say(f"{version} in slot {slot} was marked good {time.monotonic() - machine.on_since:.1f} s after power-on")
        stranger = self.plant.client("pub", "-t", "plant/line", "-m", "hello", "-q", "1", login=False)
        if stranger.returncode == 0:
            raise Failed("a stranger may publish")
        self.plant.set_up(code)
        self.plant.subscribe()
        self.plant.publish(10)
        say("set up by the wizard's API; a durable session has 10 messages")

    def answers(self) -> bool:
        """The wizard's page, and an MQTT answer of any kind."""
        try:
            self.plant.ask("GET", "setup", {}, {})
        except (OSError, http.client.HTTPException, Failed):
            return False
        refused = self.plant.client("pub", "-t", "x", "-n", login=False)
        return "not authori" in refused.stderr.lower() or refused.returncode == 0

    def refuses(self) -> None:
        for bundle, why in (("foreign", "signature"), ("other-board", "ompatible"), ("older", "(?i)older|handler")):
            self.machine.plug_in(bundle)
            refusal = self.machine.hears(r"headgate: stick: refused: .*", r"headgate: stick: \S+ is installed.*").group(0)
            if not re.search(why, refusal) or "refused" not in refusal:
                raise Failed(f"the {bundle} bundle: {refusal}")
            say(f"the {bundle} bundle: {refusal.removeprefix('headgate: stick: ')}")
            self.machine.pull_out()

    def installs(self, bundle: str) -> None:
        began = time.monotonic()
        self.machine.plug_in(bundle)
        self.machine.hears(r"headgate: stick: \S+ is installed; restarting")
        say(f"the {bundle} bundle is installed after {time.monotonic() - began:.0f} s")
        self.rebooting_since = time.monotonic()

    def updates(self) -> None:
        """Also with a disk beside it whose partitions have the same names."""
        self.plant.publish(10)
        self.machine.plug_in_impostor()
        time.sleep(20)
        self.installs("good")
        version, slot = self.machine.is_good()
        say(f"{version} in slot {slot} is good {time.monotonic() - self.rebooting_since:.0f} s after the restart")
        if (version, slot) != (f"{VERSION}.1", "B"):
            raise Failed("that is not the update")
        self.machine.pull_out()
        self.machine.pull_out_impostor()
        self.plant.has_all()

    def falls_back(self) -> None:
        machine = self.machine
        self.plant.publish(10)
        before = self.slot_now()
        self.installs("broken")
        other = "A" if before == "B" else "B"
        for attempt in range(1, 4):
            taken = machine.hears(r"headgate: slot ([AB])").group(1)
            if taken != other:
                raise Failed(f"try {attempt} is in slot {taken}")
            say(f"try {attempt} of the broken system, {time.monotonic() - self.rebooting_since:.0f} s after the restart")
        taken = machine.hears(r"headgate: slot ([AB])").group(1)
        if taken != before:
            raise Failed(f"after three tries slot {taken} was taken")
        version, slot = machine.is_good()
        say(f"{version} in slot {slot} is back and good {time.monotonic() - self.rebooting_since:.0f} s after the restart")
        machine.pull_out()
        self.plant.has_all()

    def slot_now(self) -> str:
        return re.findall(r"headgate: \S+ in slot ([AB]) is good", self.machine.text())[-1]

    def version_now(self) -> str:
        return re.findall(r"headgate: (\S+) in slot [AB] is good", self.machine.text())[-1]

    def comes_back(self, what: str) -> str:
        """The power is cut, and is there again, without the stick."""
        self.machine.cut()
        self.machine.seen = len(self.machine.text())
        self.machine.power_on()
        version, slot = self.machine.is_good()
        self.good_after = time.monotonic() - self.machine.on_since
        say(f"power cut {what}: {version} in slot {slot} is good {self.good_after:.0f} s after power-on")
        self.plant.has_all()
        return version

    def survives_cuts(self) -> None:
        """At each step of an install. Each begins with the system of before."""
        machine = self.machine
        machine.cut()
        saved = FOLDER / "disk.saved"
        self.copy(machine.image, saved)
        machine.seen = len(machine.text())
        machine.power_on()
        machine.is_good()
        steps = 0
        while True:
            self.plant.publish(5)
            machine.plug_in("next")
            for _ in range(steps + 1):
                line = machine.hears(r"headgate: stick: (\d+% .*)", r"headgate: stick: (\S+ is installed); restarting").group(0)
            what = line.removeprefix("headgate: stick: ")
            version = self.comes_back(f"at '{what}'")
            steps += 1
            if "is installed" in what:
                break
            self.begin_again(version, saved)
        say(f"{steps} steps of an install")
        saved.unlink()

    def begin_again(self, version: str, saved: pathlib.Path) -> None:
        """If the update runs already, the disk of before takes its place: all queues were empty then, too."""
        if version == f"{VERSION}.3":
            self.machine.cut()
            self.copy(saved, self.machine.image)
            self.machine.disk.replaced()
            self.machine.seen = len(self.machine.text())
            self.machine.power_on()
            self.machine.is_good()

    def survives_random_cuts(self) -> None:
        """ROUNDS installations, each cut at a random moment of it or of the restart behind it. What boots then begins the next one.

        Each second round has a disk that forgets. A line for each round comes into random-cuts.csv.
        """
        machine, disk = self.machine, self.machine.disk
        seed = random.SystemRandom().randrange(1 << 32)
        chance = random.Random(seed)
        results = FOLDER / "random-cuts.csv"
        if not results.exists():
            results.write_text("seed,round,seconds,of,forgets,lost,step,version,slot,good after\n")
        version = self.version_now()
        # How long one takes, until the restart.
        began = time.monotonic()
        self.goes_on(version)
        machine.hears(r"headgate: stick: \S+ is installed; restarting")
        length = time.monotonic() - began
        version, _ = machine.is_good()
        machine.pull_out()
        say(f"an installation takes {length:.1f} s; seed {seed}")
        tally: dict[str, int] = {}
        for at in range(ROUNDS):
            self.plant.publish(2)
            began, heard = time.monotonic(), len(machine.text())
            self.goes_on(version)
            wait = chance.uniform(0, 1.5 * length)
            disk.forgets = chance if at % 2 else None
            time.sleep(max(0, began + wait - time.monotonic()))
            steps = re.findall(r"headgate: stick: (?:(\d+)%.*|(\S+ is installed); restarting)\n", machine.text()[heard:])
            step = next((word for word in reversed(steps[-1]) if word), "") if steps else "nothing yet"
            lost = machine.cut()
            forgot, disk.forgets = disk.forgets is not None, None
            version = self.comes_back(f"{wait:.1f} s after the stick came ({step}{f', {lost} writes forgotten' if forgot else ''}), round {at + 1} of {ROUNDS}")
            tally[version] = tally.get(version, 0) + 1
            row = (seed, at + 1, f"{wait:.1f}", f"{length:.1f}", int(forgot), lost, step, version, self.slot_now(), f"{self.good_after:.0f}")
            with results.open("a") as file:
                file.write(",".join(map(str, row)) + "\n")
        say(f"{ROUNDS} cuts at random moments: " + ", ".join(f"{version} {count} times" for version, count in tally.items()))

    def goes_on(self, version: str) -> None:
        """The bundle that does not run comes on a stick."""
        self.machine.plug_in("one" if version == f"{VERSION}.3" else "other")

    def survives_torn_environments(self) -> None:
        """The power is cut within writes of the boot environment: U-Boot's, that of `mark good`, and those of an installation."""
        self.tears_u_boots()
        self.tears_mark_good()
        self.tears_an_install()

    def tears_u_boots(self) -> None:
        """U-Boot's write, after each of its sectors: the next start has one whole copy, and takes the same slot."""
        machine, disk = self.machine, self.machine.disk
        slot = self.slot_now()
        machine.cut()
        before = disk.content("env")
        said = set()
        for sectors in range(ENVIRONMENT_BYTES // SECTOR + 1):
            done = 0

            def watch(write: Write, sectors: int = sectors) -> int | None:
                nonlocal done
                if write.partition != "env":
                    return None
                done += write.size
                return sectors * SECTOR - (done - write.size) if done >= sectors * SECTOR else None

            disk.watch = watch
            machine.seen = len(machine.text())
            machine.power_on()
            if not disk.cut.wait(PATIENCE):
                raise Failed("U-Boot does not write its environment")
            machine.cut()
            machine.seen = len(machine.text())
            machine.power_on()
            line = machine.hears(r"headgate: environment (\w+), order (.*), tries .*")
            taken = machine.hears(r"headgate: slot ([AB])").group(1)
            if line.group(1) == "none" or taken != slot:
                raise Failed(f"after {sectors} sectors of the environment: {line.group(0)}, and slot {taken} was taken")
            said.add(line.group(0).removeprefix("headgate: "))
            machine.cut()
            disk.put("env", before)
        say(f"U-Boot's write was cut after each of 0 to {sectors} sectors: {' / '.join(sorted(said))}; slot {slot} each time")
        machine.seen = len(machine.text())
        machine.power_on()
        machine.is_good()

    def tears_mark_good(self) -> None:
        """Each write from the kernel's start until the system is good: before it, in the middle of it, behind it."""
        machine, disk = self.machine, self.machine.disk
        at, part, cuts = 0, 0, 0
        while True:
            self.plant.publish(1)
            machine.cut()
            count = 0

            def watch(write: Write, at: int = at, part: int = part) -> int | None:
                nonlocal count
                if write.partition != "env" or not machine.text()[machine.seen :].count("headgate: slot"):
                    return None
                count += 1
                return write.size * part // 2 // SECTOR * SECTOR if count > at else None

            disk.watch = watch
            machine.seen = len(machine.text())
            machine.power_on()
            if not self.is_cut_or_good():
                disk.watch = None
                self.plant.has_all()
                break
            self.comes_back(f"with {part} of 2 halves of write {at + 1} of `mark good`")
            cuts += 1
            at, part = (at, part + 1) if part < 2 else (at + 1, 0)
        if not cuts:
            raise Failed("`mark good` writes nothing")
        say(f"{cuts} cuts in the {at} writes of `mark good`")

    def is_cut_or_good(self) -> bool:
        """Whether the disk's watch cuts the power, before this system is good and a while after."""
        good_at = None
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.machine.disk.cut.wait(0.2):
                return True
            if good_at is None and " is good\n" in self.machine.text()[self.machine.seen :]:
                good_at = time.monotonic()
            if good_at is not None and time.monotonic() > good_at + 15:
                return False
        raise Failed("this system is not good, and its power was not cut")

    def tears_an_install(self) -> None:
        """Each write of the environment that an installation makes, in its middle."""
        machine, disk = self.machine, self.machine.disk
        version = self.version_now()
        cuts = 0
        while True:
            count = 0

            def watch(write: Write, at: int = cuts) -> int | None:
                nonlocal count
                if write.partition != "env":
                    return None
                count += 1
                return write.size // 2 // SECTOR * SECTOR if count > at else None

            self.plant.publish(2)
            heard = len(machine.text())
            disk.watch = watch
            self.goes_on(version)
            deadline = time.monotonic() + PATIENCE
            while not disk.cut.wait(0.1) and "is installed; restarting" not in machine.text()[heard:]:
                if time.monotonic() > deadline:
                    raise Failed("the installation does not end")
            if not disk.cut.is_set():
                disk.watch = None
                machine.is_good()
                machine.pull_out()
                self.plant.has_all()
                break
            cuts += 1
            version = self.comes_back(f"in the middle of write {cuts} of the environment in an installation")
        say(f"an installation writes the environment {cuts} times: it was cut in each")

    def is_provisioned(self) -> None:
        """By a stick while it runs, and by the boot partition before it does; not by what somebody else has signed."""
        machine, plant = self.machine, self.plant
        plant.publish(5)
        static = '[[network]]\ninterface = "e*"\naddresses = ["10.0.2.15/24"]\ngateway = "10.0.2.2"\n'
        person = '[[users]]\nname = "line 7"\npassword = "a password of the plant"\n'
        text = f'number = %d\ndevices = ["52:54:00:12:34:56"]\nconfiguration.node = "plant@%d"\n{person}'
        rogue = FOLDER / "rogue-provisioning.key"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", rogue], check=True)
        for key, number, answer in (
            (rogue, 9, "its signature is not of this key"),
            (KEYS / "provisioning.key", 7, "number 7 is taken"),
        ):
            machine.plug_in_file(sign(text % (number, number) + static, key))
            told = machine.hears(r"headgate: provisioning: .*").group(0)
            if answer not in told:
                raise Failed(f"a provisioning file on a stick: {told}")
            say(told.removeprefix("headgate: "))
            machine.pull_out()
        self.is_of_the_plant("plant@7")
        self.comes_back("behind provisioning by a stick")
        self.has_address_by("10.0.2.15/24 of the file", dhcp=False)
        plant.publish(3)
        machine.cut()
        begin = partitions(machine.image)["boot"][0]
        signed = sign(text % (8, 8), KEYS / "provisioning.key")
        subprocess.run(["mcopy", "-o", "-i", f"{machine.image}@@{begin}", signed, "::headgate-provisioning.toml"], check=True)
        self.comes_back("with a file in the boot partition")
        self.is_of_the_plant("plant@8")
        self.has_address_by("DHCP again", dhcp=True)

    def is_of_the_plant(self, node: str) -> None:
        """Its network becomes that of the file behind the gateway's own settings: what is asked meanwhile may be cut off."""
        deadline = time.monotonic() + 60
        while True:
            try:
                name = self.plant.ask("GET", "system", {}, self.plant.login())[0]["node"]
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)
        known = self.plant.client("pub", "-q", "1", "-t", "line/7", "-m", "x", "-u", "line 7", "-P", "a password of the plant", login=False)
        if name != node or known.returncode:
            raise Failed(f"the gateway is {name}, and a user of the file hears {known.stderr}")
        say(f"it is {node}, and knows the users of the file")

    def has_address_by(self, what: str, *, dhcp: bool) -> None:
        """Whether DHCP's client listens, as the system itself says."""
        udp = re.findall(r"headgate: open to the network: tcp [\d ]*udp ([\d ]*)", self.machine.text())[-1].split()
        if ("68" in udp) != dhcp:
            raise Failed(f"the network is not by {what}: UDP {udp}")
        say(f"the network is by {what}")

    def starts_over(self) -> None:
        """A factory reset: no data is left, and what the boot partition says is taken again."""
        machine, plant = self.machine, self.plant
        login = plant.login()
        node = plant.ask("GET", "system", {}, login)[0]["node"]
        plant.publish(1)
        plant.ask("POST", "factory-reset", {"confirm": node}, login)
        machine.hears(r"headgate: slot ([AB])")
        machine.is_good()
        code = machine.hears(r"headgate: set-up code (\S+?):? ").group(1)
        known = plant.client("pub", "-q", "1", "-t", "plant/line", "-m", "x")
        if known.returncode == 0:
            raise Failed("a user of before the factory reset is still known")
        plant.had.clear()
        plant.sent.clear()
        plant.set_up(code)
        plant.subscribe()
        plant.publish(3)
        now = plant.ask("GET", "system", {}, plant.login())[0]["node"]
        say(f"{node} was reset to {now}: nobody was known any more, and it was set up anew")
        if now != node and "provision" in CASES:
            raise Failed("the provisioning file of the boot partition was not taken again")
        plant.has_all()

    def is_woken(self) -> None:
        """A system that hangs, here its first process, is reset by the hardware's watchdog, and left after its tries."""
        machine = self.machine
        self.plant.publish(5)
        before = self.slot_now()
        other = "A" if before == "B" else "B"
        self.installs("frozen")
        machine.events.clear()
        for attempt in range(1, 4):
            taken = machine.hears(r"headgate: slot ([AB])").group(1)
            if taken != other:
                raise Failed(f"try {attempt} is in slot {taken}")
            say(f"try {attempt} of the system that hangs, {time.monotonic() - self.rebooting_since:.0f} s after the restart")
        if machine.hears(r"headgate: slot ([AB])").group(1) != before:
            raise Failed("the system that hangs was taken again")
        version, slot = machine.is_good()
        machine.pull_out()
        resets = machine.events.count("WATCHDOG")
        say(f"the watchdog reset the machine {resets} times; {version} in slot {slot} is back and good {time.monotonic() - self.rebooting_since:.0f} s after the restart")
        starts = self.plant.ask("GET", "system/starts", {}, self.plant.login())[0]
        if resets != 3 or starts["rows"][0]["why"] != "watchdog":
            raise Failed(f"a reset by the watchdog was expected for each try, and that it is told: {starts['rows'][0]}")
        self.plant.has_all()

    def keeps_time(self) -> None:
        """A clock that says 1970, and no network that knows better: nothing expires, it is said, and it goes on when somebody sets the clock."""
        machine, plant = self.machine, self.plant
        plant.publish(5, "-V", "5", "-D", "publish", "message-expiry-interval", "3600")
        machine.cut()
        machine.seen = len(machine.text())
        machine.power_on("-rtc", "base=1970-01-01T00:00:00")
        machine.is_good()
        login = plant.login()
        system, _ = plant.ask("GET", "system", {}, login)
        clock = system["clock"]
        behind = time.time() - system["now"]
        say(f"with a clock chip at 1970 the gateway's clock is {behind:.0f} s behind; {json.dumps(clock)}")
        if behind > 30 * 86400 or behind < 0 or clock["believed"] or clock["synchronized"]:
            raise Failed(f"the clock: {system['now']}, {clock}")
        alarms = json.dumps(plant.ask("GET", "alarms", {}, login)[0])
        if "clock_unset" not in alarms:
            raise Failed(f"no alarm tells of the clock: {alarms}")
        plant.publish(5, "-V", "5", "-D", "publish", "message-expiry-interval", "3600")
        plant.ask("PUT", "system/clock", {"now": time.time()}, login)
        deadline = time.monotonic() + 60
        while True:
            system, _ = plant.ask("GET", "system", {}, login)
            if abs(time.time() - system["now"]) < 30 and system["clock"]["believed"]:
                break
            if time.monotonic() > deadline:
                raise Failed(f"the clock was set, and it is not believed: {system['now']}, {system['clock']}")
            time.sleep(2)
        say("the clock was set by the API, and it is believed")
        plant.has_all()

    def idles(self) -> None:
        """What an idle gateway writes in ten minutes, and what it takes of memory and disk."""
        machine, disk = self.machine, self.machine.disk
        machine.cut()
        machine.seen = len(machine.text())
        machine.power_on()
        machine.is_good()
        time.sleep(60)
        before, writes, emulated = dict(disk.written), len(disk.writes), machine.emulated()
        time.sleep(IDLE_SECONDS)
        emulated = machine.emulated() - emulated
        written = {name: size - before.get(name, 0) for name, size in disk.written.items() if size != before.get(name, 0)}
        say(f"written in {IDLE_SECONDS} idle seconds: {written or 'nothing'}, in {len(disk.writes) - writes} writes; QEMU had {emulated:.1f} s of processor time")
        (FOLDER / "idle-writes.txt").write_text("".join(f"{write.partition} {write.at} {write.size}\n" for write in disk.writes[writes:]))
        system, _ = self.plant.ask("GET", "system", {}, self.plant.login())
        memory, space = system["memory"], system["disk"]
        say(f"memory of the gateway {memory['process_bytes'] / (1 << 20):.1f} MiB; of the machine {memory['available_bytes'] >> 20} of {memory['total_bytes'] >> 20} MiB are free")
        say(f"/data: {(space['total_bytes'] - space['free_bytes']) / 1e6:.1f} of {space['total_bytes'] / 1e6:.0f} MB are used")
        if any(size > IDLE_BYTES for size in written.values()) or set(written) - {"data"}:
            raise Failed(f"{written} in {IDLE_SECONDS} idle seconds, and {IDLE_BYTES} bytes of /data are allowed")

    def goes_another_way(self) -> None:
        """Two cards, and the first has a link and an address but no way out: bridge and updates go on by the second, and come back to the first."""
        machine, plant = self.machine, self.plant
        machine.cut()
        cloud, host = Cloud(), own_address()
        # The first is behind a hub, whose uplink can be cut without the card's knowing. Clients of this test come in by the second.
        machine.network = [
            "-netdev", "user,id=wired,net=10.0.2.0/24", "-netdev", "hubport,id=uplink,hubid=0,netdev=wired", "-netdev", "hubport,id=card,hubid=0",
            "-netdev", f"user,id=other,net=10.0.3.0/24,{machine.forwarded()}",
            *[part for netdev, mac in self.cards(("card", 56), ("other", 57)) for part in ("-device", f"virtio-net-device,netdev={netdev},mac=52:54:00:12:34:{mac}")],
        ]  # fmt: skip
        machine.seen = len(machine.text())
        machine.power_on()
        machine.is_good()
        ways = "".join(
            f'[[configuration.wans]]\nname = "{name}"\ninterface = "{interface}"\nprobe = ["{gateway}:{cloud.port}"]\ninterval = "10s"\ntimeout = "3s"\nfailures = 2\nback_after = "20s"\n'
            for name, interface, gateway in (("ethernet", "eth0", "10.0.2.2"), ("cellular", "eth1", "10.0.3.2"))
        )
        self.is_given(20, self.bridge(f"{host}:{cloud.port}") + ways)
        self.leaves_by("ethernet")
        told = self.tells(3)
        cloud.hears(told)
        say("by the first way out, the bridge has delivered 3 messages")

        machine.ask("set_link", name="wired", up=False)
        began = time.monotonic()
        told += self.tells(3)
        self.leaves_by("cellular")
        chosen = time.monotonic() - began
        cloud.hears(told)
        say(f"no way out by the first: the second was chosen after {chosen:.0f} s, and 3 messages more had arrived by it {time.monotonic() - began:.0f} s after")
        self.asks_for_update_of(host)

        machine.ask("set_link", name="wired", up=True)
        began = time.monotonic()
        told += self.tells(3)
        cloud.hears(told)
        self.leaves_by("ethernet")
        say(f"it went back to the first {time.monotonic() - began:.0f} s after that had its way out again")
        told += self.tells(3)
        cloud.hears(told)
        plant.has_all()
        cloud.close()
        machine.cut()
        machine.network = []
        self.goes_on_without_network()

    def dials(self) -> None:
        """A modem on a serial line is the way out, where the card has none: its SIM wants a PIN, its provider a password, and it goes away and comes back."""
        machine, plant = self.machine, self.plant
        machine.cut()
        cloud = Cloud()
        modem = Modem(FOLDER / "modem", "4711", ("plant-7", "of!the-SIM"))
        line = ("-chardev", f"socket,id=m,path={FOLDER / 'modem'}", "-device", "usb-serial,chardev=m,bus=usb.0")
        machine.seen = len(machine.text())
        machine.power_on(*line)
        machine.is_good()

        def cellular(number: int, pin: str) -> None:
            entry = f'[[network]]\ninterface = "wwan0"\ncellular = {{ device = "/dev/ttyUSB0", apn = "iot.plant", pin = "{pin}", user = "plant-7", password = "of!the-SIM" }}\n'
            self.is_given(number, entry + self.bridge(f"{PROVIDER}:{cloud.port}"))

        cellular(30, "1111")
        self.waits_for(lambda: modem.tries == 2, "the wrong PIN is entered")
        time.sleep(60)  # dialled again meanwhile, and longer each time
        queries = modem.heard.count("AT+CPIN?")
        machine.cut()
        modem.power_off()
        machine.seen = len(machine.text())
        machine.power_on(*line)
        machine.is_good()
        self.waits_for(lambda: modem.heard.count("AT+CPIN?") > queries, "the modem is asked after another start")
        time.sleep(30)
        entered = [command for command in modem.heard if command.startswith("AT+CPIN=")]
        if entered != ['AT+CPIN="1111"'] or modem.tries != 2:
            raise Failed(f"a wrong PIN was entered more than once: {modem.heard}")
        say("a PIN that was refused was entered once, also over a power cut")

        cellular(31, "4711")
        began = time.monotonic()
        told = self.tells(3)
        cloud.hears(told)
        say(f"with the right one the modem was in a call, and 3 messages had come by it {time.monotonic() - began:.0f} s later")
        if 'AT+CGDCONT=1,"IP","iot.plant"' not in modem.heard or not modem.is_known:
            raise Failed(f"the provider was told another access point or account: {modem.heard}")
        inside = subprocess.run(["mosquitto_pub", "-h", MACHINE, "-u", USER, "-P", PASSWORD, "-q", "1", "-t", "other", "-m", "x"], capture_output=True, text=True, timeout=60, check=False)
        if inside.returncode:
            raise Failed(f"the gateway does not answer on the modem's address: {inside.stderr}")

        calls, modem.is_deaf = modem.calls, True
        began = time.monotonic()
        told += self.tells(3)
        # Echoes unanswered: pppd hangs up, and finds no modem until there is one again.
        self.waits_for(lambda: modem.hung_up > 0, "a dead link is noticed")
        say(f"the provider fell silent: noticed after {time.monotonic() - began:.0f} s")
        modem.is_deaf = False
        self.waits_for(lambda: modem.calls > calls, "the modem is dialled again")
        cloud.hears(told)
        say(f"it was dialled again, and what had waited arrived {time.monotonic() - began:.0f} s after the silence began")
        plant.has_all()
        cloud.close()
        machine.cut()
        self.goes_on_without_network()

    def joins(self) -> None:
        """Wi-Fi of a provisioning file, by radios that the kernel of another system pretends."""
        self.plant.publish(3)
        self.installs("wifi")
        self.machine.is_good()
        self.machine.pull_out()
        wifi = '[[configuration.wans]]\nname = "wifi"\ninterface = "wlan0"\n[[network]]\ninterface = "wlan0"\nwifi = {{ ssid = "Plant 7", password = "{}", country = "DE", hidden = true }}\n'
        self.is_given(40, wifi.format("another password"))
        self.waits_for(lambda: "the password" in self.why_not("wifi"), "why it does not join is told")
        say(f"by another password: {self.why_not('wifi')}")
        began = time.monotonic()
        self.is_given(41, wifi.format("a password of this test"))
        keys = self.machine.hears(r"headgate: test: Key negotiation completed.*").group(0)
        address = self.machine.hears(r"headgate: test: .* inet (10\.0\.5\.\d+)").group(1)
        say(f"it joined the Wi-Fi of the file, and had {address} by it {time.monotonic() - began:.0f} s after that: {keys.removeprefix('headgate: test: ')}")
        self.plant.has_all()

    @staticmethod
    def waits_for(condition: Callable[[], bool], what: str, patience: float = 300) -> None:
        deadline = time.monotonic() + patience
        while not condition():
            if time.monotonic() > deadline:
                raise Failed(f"not so within {patience:.0f} s: {what}")
            time.sleep(0.2)

    @staticmethod
    def cards(*cards: tuple) -> list[tuple]:
        """QEMU numbers the last virtio device first, and eth0 is the first."""
        return list(reversed(cards))

    @staticmethod
    def bridge(address: str) -> str:
        return f'[configuration]\nnode = "plant@7"\n[[configuration.bridges]]\nname = "cloud"\naddresses = ["mqtt://{address}"]\ntopics = ["plant/# out 1"]\n'

    def is_given(self, number: int, text: str) -> None:
        """A provisioning file, by a stick."""
        self.machine.plug_in_file(sign(f"number = {number}\n{text}", KEYS / "provisioning.key"))
        told = self.machine.hears(r"headgate: provisioning: .*").group(0)
        if f"number {number} is taken" not in told:
            raise Failed(told)
        self.machine.pull_out()

    def ways(self) -> dict:
        """The ways out, as the gateway itself says; none while it begins anew."""
        try:
            return self.plant.ask("GET", "wans", {}, self.plant.login())[0]
        except (OSError, http.client.HTTPException, Failed):
            return {}

    def why_not(self, name: str) -> str:
        """What it says against a way out."""
        return next((wan["last_error"] or "" for wan in self.ways().get("rows", []) if wan["name"] == name), "")

    def leaves_by(self, name: str) -> None:
        """Until this is the way out."""
        deadline = time.monotonic() + 180
        while True:
            ways = self.ways()
            if ways.get("active") == name:
                return
            if time.monotonic() > deadline:
                raise Failed(f"the way out is not {name}: {ways}")
            time.sleep(0.5)

    def tells(self, count: int) -> list[str]:
        before = len(self.plant.sent)
        self.plant.publish(count)
        return self.plant.sent[before:]

    def asks_for_update_of(self, host: str) -> None:
        """An update by its address is asked for by the machine, and not by a bridge: its default route has followed."""
        asked = threading.Event()

        class Server(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.set()
                self.send_error(404)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        with http.server.ThreadingHTTPServer(("0.0.0.0", 0), Server) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                self.plant.ask("POST", "firmware/check", {"bundle": f"http://{host}:{server.server_port}/x.raucb"}, self.plant.login())
            except Failed:
                pass  # there is no such update
            is_asked = asked.wait(60)
            server.shutdown()
        if not is_asked:
            raise Failed("an update by its address is not asked for by the second way out: the machine's default route has not followed")
        say("an update by its address was asked for by the second way out")

    def goes_on_without_network(self) -> None:
        """As other cases want it."""
        self.machine.seen = len(self.machine.text())
        self.machine.power_on()
        self.machine.is_good()

    @staticmethod
    def copy(source: pathlib.Path, to: pathlib.Path) -> None:
        subprocess.run(["cp", "--sparse=always", source, to], check=True)

    def run(self) -> None:
        steps = {"boot": self.boots, "refuse": self.refuses, "update": self.updates, "fallback": self.falls_back, "watchdog": self.is_woken, "provision": self.is_provisioned, "reset": self.starts_over, "clock": self.keeps_time, "wans": self.goes_another_way, "cellular": self.dials,
                 "idle": self.idles, "cut": self.survives_cuts, "environment": self.survives_torn_environments, "random": self.survives_random_cuts, "wifi": self.joins}  # fmt: skip
        try:
            for name, step in steps.items():
                if name in CASES or name == "boot":
                    step()
        except Failed as failure:
            print("\n".join(self.machine.text().splitlines()[-40:]))
            raise SystemExit(f"FAILED: {failure}; the whole console is in {self.machine.console}") from None
        finally:
            self.machine.cut()
        if self.boot_time > 60:
            raise SystemExit(f"FAILED: it took {self.boot_time:.1f} s of emulation until the gateway answered, and 60 s are allowed")
        say("all well")


if __name__ == "__main__":
    Test().run()
