#!/usr/bin/env python3
"""What the web UI costs those who publish, with very many clients: latency with and without it in one run, and how long pages take.

    headgate bench sn … --clients 100000        # in another terminal: clients that stay
    ui_scale.py --http 18083 --mqtt 1883 --name root --password-file FILE [--rounds 10]

Rounds alternate: in one the UI is open as a browser has it (its polls, its stream of events), in the next it is not. A publisher sends a message of
QoS 0 every few milliseconds to a subscriber, over one connection each, and the time until it is there is taken. On loopback only.
"""

import argparse
import http.client
import json
import socket
import struct
import threading
import time

# What an open page asks, and how often in seconds.
POLLS = [("/api/v1/status", 5), ("/api/v1/overview", 5), ("/api/v1/clients?limit=100", 5), ("/api/v1/history?span=24h", 60)]
ROUND = 10
EVERY = 0.004


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))]


class Mqtt:
    def __init__(self, port, client):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name = client.encode()
        body = b"\x00\x04MQTT\x04\x02\x00\x00" + struct.pack(">H", len(name)) + name
        self.socket.sendall(bytes([0x10, len(body)]) + body)
        assert self.read()[0] == 0x20

    def exactly(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            assert part, "the connection ended"
            data += part
        return data

    def read(self):
        first = self.exactly(1)[0]
        length = self.exactly(1)[0]
        assert length < 128
        return first, self.exactly(length)

    def subscribe(self, topic):
        name = topic.encode()
        body = b"\x00\x01" + struct.pack(">H", len(name)) + name + b"\x00"
        self.socket.sendall(bytes([0x82, len(body)]) + body)
        assert self.read()[0] == 0x90

    def publish(self, topic, payload):
        name = topic.encode()
        body = struct.pack(">H", len(name)) + name + payload
        self.socket.sendall(bytes([0x30, len(body)]) + body)


class Page:
    """A browser with the UI open."""

    def __init__(self, port, cookie):
        self.port, self.cookie = port, cookie
        self.taken = {path: [] for path, _ in POLLS}
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.poll, daemon=True), threading.Thread(target=self.listen, daemon=True)]
        for thread in self.threads:
            thread.start()

    def poll(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        due = {path: 0 for path, _ in POLLS}
        while not self.over.is_set():
            for path, every in POLLS:
                if time.monotonic() < due[path]:
                    continue
                due[path] = time.monotonic() + every
                begun = time.perf_counter()
                connection.request("GET", path, headers={"Cookie": self.cookie, "x-background": "1"})
                answer = connection.getresponse()
                body = answer.read()
                assert answer.status == 200, (path, body)
                self.taken[path].append(time.perf_counter() - begun)
            self.over.wait(0.1)

    def listen(self):
        stream = socket.create_connection(("127.0.0.1", self.port))
        stream.settimeout(0.5)
        request = f"GET /api/v1/events?kinds=presence,alarm,bridge HTTP/1.1\r\nHost: here\r\nCookie: {self.cookie}\r\n\r\n"
        stream.sendall(request.encode())
        while not self.over.is_set():
            try:
                assert stream.recv(4096), "the stream ended"
            except TimeoutError:
                pass
        stream.close()

    def close(self):
        self.over.set()
        for thread in self.threads:
            thread.join(timeout=5)


def latencies(publisher, subscriber, seconds):
    taken, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.perf_counter()
        publisher.publish("ui/scale", b"x")
        subscriber.read()
        taken.append(time.perf_counter() - begun)
        time.sleep(EVERY)
    return taken


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--http", type=int, default=18083)
    arguments.add_argument("--mqtt", type=int, default=1883)
    arguments.add_argument("--name", required=True)
    arguments.add_argument("--password-file", required=True)
    arguments.add_argument("--rounds", type=int, default=10)
    given = arguments.parse_args()
    connection = http.client.HTTPConnection("127.0.0.1", given.http)
    with open(given.password_file) as file:
        login = {"name": given.name, "password": file.readline().rstrip("\n")}
    connection.request("POST", "/api/v1/session", json.dumps(login), {"content-type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, answer.status
    cookie = answer.getheader("set-cookie").split(";")[0]
    subscriber, publisher = Mqtt(given.mqtt, "ui-scale-in"), Mqtt(given.mqtt, "ui-scale-out")
    subscriber.subscribe("ui/scale")
    latencies(publisher, subscriber, 2)
    without, with_ui, pages = [], [], {path: [] for path, _ in POLLS}
    for number in range(given.rounds):
        without += latencies(publisher, subscriber, ROUND)
        page = Page(given.http, cookie)
        with_ui += latencies(publisher, subscriber, ROUND)
        page.close()
        for path, taken in page.taken.items():
            pages[path] += taken
        print(f"round {number + 1} of {given.rounds}", flush=True)
    # A page that is asked again and again, for its own percentiles.
    connection = http.client.HTTPConnection("127.0.0.1", given.http)
    for _ in range(300):
        begun = time.perf_counter()
        connection.request("GET", "/api/v1/clients?limit=100", headers={"Cookie": cookie})
        connection.getresponse().read()
        pages["/api/v1/clients?limit=100"].append(time.perf_counter() - begun)
    for name, taken in [("without the UI", without), ("with it", with_ui)]:
        told = [f"{percentile(taken, part) * 1e6:.0f}" for part in (0.5, 0.9, 0.99)]
        print(f"{name}: {len(taken)} messages, p50 {told[0]} µs, p90 {told[1]} µs, p99 {told[2]} µs, mean {sum(taken) / len(taken) * 1e6:.1f} µs")
    for part in (0.5, 0.99):
        print(f"ratio at p{part * 100:.0f}: {percentile(with_ui, part) / percentile(without, part):.3f}")
    print(f"ratio of means: {sum(with_ui) / len(with_ui) / (sum(without) / len(without)):.3f}")
    for path, taken in pages.items():
        print(f"{path}: {len(taken)} times, p50 {percentile(taken, 0.5) * 1e3:.1f} ms, p99 {percentile(taken, 0.99) * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
