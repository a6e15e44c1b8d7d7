#!/usr/bin/env python3
"""What it costs to store QoS 1 messages for a client that is away, and to drain them when it comes back.

store.py HEADGATE [ROUNDS] [MESSAGES] runs Headgate (durability power-loss) and Debian's mosquitto (nothing durable) one after the other, ROUNDS
times, and prints medians: messages a second, CPU seconds of the broker per million, bytes written to the device per byte of payload.
The third case is a receiver that is there and acknowledges at once.
"""
import json, os, pathlib, shutil, socket, statistics, subprocess, sys, tempfile, time

PAYLOAD = 256
WINDOW = 200


def string(text):
    return len(text).to_bytes(2, "big") + text.encode()


def packet(first, body):
    n, length = len(body), b""
    while True:
        n, low = divmod(n, 128)
        length += bytes([low | (0x80 if n else 0)])
        if not n:
            return bytes([first]) + length + body


class Client:
    def __init__(self, port, client_id, clean):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flags = 2 if clean else 0
        self.socket.sendall(packet(0x10, string("MQTT") + bytes([4, flags, 0, 0]) + string(client_id)))
        assert self.read(4)[0] == 0x20

    def read(self, n):
        data = b""
        while len(data) < n:
            more = self.socket.recv(n - len(data))
            assert more, "the broker closed the connection"
            data += more
        return data

    def subscribe(self, topic):
        self.socket.sendall(packet(0x82, b"\0\1" + string(topic) + b"\1"))
        assert self.read(5)[0] == 0x90


def publish(port, messages):
    """Publishes with a window; returns when everything is acknowledged."""
    client = Client(port, "publisher", True)
    body = bytes(i * 7 % 251 for i in range(PAYLOAD))
    packets = [packet(0x32, string("plant/line/1") + (1 + n % 60000).to_bytes(2, "big") + body) for n in range(60000)]
    sent = acked = rest = 0
    while acked < messages:
        room = min(WINDOW - (sent - acked), messages - sent)
        if room > WINDOW // 4 or sent + room == messages and room:
            client.socket.sendall(b"".join(packets[n % 60000] for n in range(sent, sent + room)))
            sent += room
        rest += len(client.socket.recv(1 << 16))
        acked += rest // 4
        rest %= 4


def drain(client, messages):
    """Takes so many messages and acknowledges each."""
    size = len(packet(0x32, string("plant/line/1") + b"\0\0" + bytes(PAYLOAD)))
    at = size - PAYLOAD - 2
    buffer, taken = b"", 0
    while taken < messages:
        more = client.socket.recv(1 << 18)
        assert more, "the broker closed the connection"
        buffer += more
        whole = len(buffer) // size
        acks = b"".join(b"\x40\x02" + buffer[i * size + at : i * size + at + 2] for i in range(whole))
        buffer = buffer[whole * size :]
        taken += whole
        client.socket.sendall(acks)


class Broker:
    def __init__(self, name, program, folder):
        self.name, self.port = name, free_port()
        config = pathlib.Path(folder) / "config"
        if name == "headgate":
            config.write_text(
                f'data_dir = "{folder}/data"\n[log]\nlevel = "warn"\n[bus]\nmax_queued_messages = 100000000\n'
                f"max_queued_bytes = 100000000000\nmax_total_queued_bytes = 0\n[store]\nmax_bytes = 0\n"
                f'[mqtt]\nv3_session_expiry = "1h"\n'
                f'[[listeners]]\nname = "tcp"\nkind = "tcp"\nbind = "127.0.0.1:{self.port}"\n'
            )
            command = [program, "run", "--config", str(config)]
        else:
            config.write_text(
                f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
                "max_queued_messages 0\nmax_queued_bytes 0\nmax_inflight_messages 100\n"
            )
            command = [program, "-c", str(config)]
        self.process = subprocess.Popen(["taskset", "-c", "0"] + command, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"{name} does not start")

    def usage(self):
        pid = self.process.pid
        fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
        io = dict(line.split(": ") for line in open(f"/proc/{pid}/io").read().splitlines())
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(io["write_bytes"])

    def measure(self, work, messages):
        (cpu, written), begun = self.usage(), time.monotonic()
        work()
        took = time.monotonic() - begun
        time.sleep(0.3)
        now = self.usage()
        return {
            "rate": messages / took,
            "cpu": (now[0] - cpu) * 1e6 / messages,
            "written": (now[1] - written) / (messages * PAYLOAD),
        }

    def stop(self):
        self.process.terminate()
        self.process.wait()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run(name, program, messages):
    with tempfile.TemporaryDirectory(dir=".") as folder:
        broker = Broker(name, program, os.path.abspath(folder))
        try:
            away = Client(broker.port, "away", False)
            away.subscribe("plant/#")
            away.socket.close()
            time.sleep(0.2)
            result = {"store": broker.measure(lambda: publish(broker.port, messages), messages)}
            result["drain"] = broker.measure(lambda: drain(Client(broker.port, "away", False), messages), messages)
            import threading

            here = Client(broker.port, "away", False)
            taker = threading.Thread(target=drain, args=(here, messages))
            taker.start()
            result["online"] = broker.measure(lambda: (publish(broker.port, messages), taker.join()), messages)
            return result
        finally:
            broker.stop()


def main():
    os.sched_setaffinity(0, {1} if os.cpu_count() > 1 else {0})
    headgate = os.path.abspath(sys.argv[1])
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    messages = int(sys.argv[3]) if len(sys.argv) > 3 else 50_000
    brokers = {"headgate": headgate}
    mosquitto = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
    if mosquitto:
        brokers["mosquitto"] = mosquitto
    results = {name: [] for name in brokers}
    for n in range(rounds):
        for name, program in brokers.items():
            results[name].append(run(name, program, messages))
            print(f"round {n + 1} of {rounds}: {name} {json.dumps(results[name][-1])}", file=sys.stderr)
    print("| case | broker | messages/s | CPU s per million | bytes written per payload byte |\n|---|---|---|---|---|")
    for case in ("store", "drain", "online"):
        for name in brokers:
            middle = {key: statistics.median(r[case][key] for r in results[name]) for key in ("rate", "cpu", "written")}
            print(f"| {case} | {name} | {middle['rate']:,.0f} | {middle['cpu']:.2f} | {middle['written']:.2f} |")


main()
