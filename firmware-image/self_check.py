"""One program's self-check: is what was cross-built a gateway? Arguments: how to run the program.

Clients are mosquitto's where they can be: store and MQTT by a durable session across `kill -9`, TLS by a handshake with a certificate that is checked,
MQTT-SN by a line of two pseudo terminals.
"""

import os
import pathlib
import pty
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tty

PROGRAM = sys.argv[1:]
PATIENCE = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(*command: str, **more) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, **more)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def wire(folder: pathlib.Path) -> tuple[str, str]:
    """A serial line: the names of its two ends."""
    ends = [pty.openpty() for _ in range(2)]
    names = []
    for at, (_, end) in enumerate(ends):
        tty.setraw(end)
        link = folder / f"line{at}"
        link.symlink_to(os.ttyname(end))
        names.append(str(link))

    def carry(source: int, to: int) -> None:
        try:
            while data := os.read(source, 4096):
                os.write(to, data)
        except OSError:
            pass

    (one, _), (other, _) = ends
    for source, to in ((one, other), (other, one)):
        threading.Thread(target=carry, args=(source, to), daemon=True).start()
    return names[0], names[1]


class Gateway:
    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.mqtt, self.tls = free_port(), free_port()
        self.line, self.far = wire(folder)
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem", cwd=folder)  # fmt: skip
        (folder / "headgate.toml").write_text(f"""
data_dir = {str(folder / "data")!r}
coap = []
lwm2m = []
[[listeners]]
name = "mqtt"
bind = "127.0.0.1:{self.mqtt}"
[[listeners]]
name = "tls"
kind = "tls"
bind = "127.0.0.1:{self.tls}"
tls = {{ certificate = {str(folder / "cert.pem")!r}, key = {str(folder / "key.pem")!r} }}
[[mqttsn]]
name = "wire"
kind = "serial"
framing = "hdlc"
[mqttsn.serial]
port = {self.line!r}
baud = 115200
""")
        self.process = None

    def start(self) -> float:
        began = time.monotonic()
        log = (self.folder / "log").open("a")
        config = str(self.folder / "headgate.toml")
        self.process = subprocess.Popen([*PROGRAM, "run", "--config", config], stdout=log, stderr=log, cwd=self.folder)
        while time.monotonic() - began < PATIENCE:
            if self.process.poll() is not None:
                raise SystemExit(f"the gateway ended by itself ({self.process.returncode}):\n{(self.folder / 'log').read_text()}")
            try:
                socket.create_connection(("127.0.0.1", self.mqtt), 1).close()
                return time.monotonic() - began
            except OSError:
                time.sleep(0.05)
        raise SystemExit("the gateway does not listen")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def client(self, name: str, *arguments: str) -> str:
        return run(f"mosquitto_{name}", "-h", "127.0.0.1", "-p", str(self.mqtt), *arguments)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="headgate-self-check-") as folder:
        gateway = Gateway(pathlib.Path(folder))
        start = gateway.start()
        try:
            check(gateway)
        except BaseException:
            print((gateway.folder / "log").read_text()[-3000:], file=sys.stderr)
            raise
        finally:
            gateway.kill()
    print(f"  store, TLS, MQTT and MQTT-SN over a serial line: well; it listens after {start:.1f} s")


def check(gateway: Gateway) -> None:
    session = ("-i", "durable", "-c", "-q", "1", "-t", "self/check")
    # A durable session, whose message outlives the gateway.
    gateway.client("sub", *session, "-E")
    gateway.client("pub", "-t", "self/check", "-m", "kept", "-q", "1")
    gateway.kill()
    gateway.start()
    kept = gateway.client("sub", *session, "-C", "1", "-W", str(PATIENCE))
    assert kept == "kept\n", kept

    certificate = str(gateway.folder / "cert.pem")
    tls = ("-h", "localhost", "-p", str(gateway.tls), "--cafile", certificate, "-t", "self/tls", "-q", "1")
    run("mosquitto_pub", *tls, "-m", "secret", "-r")
    assert gateway.client("sub", "-t", "self/tls", "-C", "1", "-W", str(PATIENCE)) == "secret\n"

    serial = ("--serial", f"{gateway.far},baud=115200", "--hdlc")
    run(*PROGRAM, "sn-pub", *serial, "-t", "self/sn", "-m", "measured", "-q", "1", "-r")
    assert gateway.client("sub", "-t", "self/sn", "-C", "1", "-W", str(PATIENCE)) == "measured\n"


if __name__ == "__main__":
    main()
