#!/usr/bin/env python3
"""Many LwM2M devices on one socket: registers them, lets each be observed, notifies, and tells what that cost the gateway.

    lwm2m_scale.py --port 5783 --pid PID --devices 100000 --notifications 300000 --rate 15000

Each device has an address of its own in 127/8. The gateway must listen on loopback, with
`auto_observe = ["/3303/0/5700"]` and room for so many clients. With --again the devices registered before: what
they are observed by is read from --tokens, as after a restart of the gateway.
"""

import argparse
import json
import os
import select
import socket
import struct
import time

IP_PKTINFO = 8
SO_RCVBUFFORCE = 33
# Requests that wait for their answer at once.
WINDOW = 400


def address(device):
    return bytes([127, 1 + (device >> 16), device >> 8 & 255, device & 255])


def option(number, before, value):
    delta, length = number - before, len(value)
    return bytes([delta << 4 | length]) + value if length < 13 else bytes([delta << 4 | 13, length - 13]) + value


class Gateway:
    def __init__(self, pid):
        self.pid = pid

    def cpu(self):
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def mebibytes(self):
        with open(f"/proc/{self.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


class Devices:
    def __init__(self, port):
        self.to = ("127.0.0.1", port)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        except PermissionError:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self.socket.bind(("0.0.0.0", 0))
        self.socket.setblocking(False)
        self.registered, self.tokens = set(), {}

    def send(self, device, datagram):
        place = struct.pack("=i4s4s", 0, address(device), bytes(4))
        while True:
            try:
                self.socket.sendmsg([datagram], [(socket.IPPROTO_IP, IP_PKTINFO, place)], 0, self.to)
                return
            except BlockingIOError:
                select.select([], [self.socket], [], 1)

    def answer(self):
        """Answers what has come: pings by a reset, a GET by the value, observed."""
        count = 0
        while True:
            try:
                datagram, places, _, _ = self.socket.recvmsg(2048, 64)
            except BlockingIOError:
                return count
            count += 1
            ours = places[0][2][8:12]
            device = (ours[1] - 1) << 16 | ours[2] << 8 | ours[3]
            length, code, identifier = datagram[0] & 15, datagram[1], datagram[2:4]
            token = datagram[4 : 4 + length]
            if code == 0 and datagram[0] >> 4 & 3 == 0:
                self.send(device, b"\x70\x00" + identifier)
            elif code == 0x41:
                self.registered.add(device)
            elif code == 1:
                self.tokens[device] = token
                content = option(6, 0, b"") + option(12, 6, b"") + b"\xff21.5"
                self.send(device, bytes([0x60 | length, 0x45]) + identifier + token + content)

    def register(self, count, seconds):
        end, device = time.time() + seconds, 0
        links = b"\xff</1/0>,</3/0>,</3303/0>"
        while len(self.tokens) < count and time.time() < end:
            while device < count and device - len(self.registered) < WINDOW:
                words = [b"ep=dev-%06d" % device, b"lt=86400", b"lwm2m=1.1", b"b=U"]
                query = option(15, 12, words[0]) + b"".join(option(15, 15, word) for word in words[1:])
                head = b"\x44\x02" + struct.pack(">H", device & 0xFFFF) + struct.pack(">I", device)
                self.send(device, head + option(11, 0, b"rd") + option(12, 11, b"\x28") + query + links)
                device += 1
            if self.answer() == 0:
                select.select([self.socket], [], [], 0.05)

    def notify(self, count, rate, sequence):
        start, sent = time.time(), 0
        devices = sorted(self.tokens)
        while sent < count:
            for device in devices:
                token = self.tokens[device]
                head = bytes([0x50 | len(token), 0x45]) + struct.pack(">H", (sent * 7 + device) & 0xFFFF) + token
                content = option(6, 0, struct.pack(">I", sequence)[1:]) + option(12, 6, b"")
                self.send(device, head + content + b"\xff%.2f" % (20 + sent % 100 / 10))
                sent += 1
                if sent % 200 == 0:
                    self.answer()
                    time.sleep(max(0, sent / rate - (time.time() - start)))
                if sent >= count:
                    break
            sequence += 1
        return time.time() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--port", type=int, default=5783)
    add("--pid", type=int, required=True, help="of the gateway")
    add("--devices", type=int, default=100_000)
    add("--notifications", type=int, default=300_000)
    add("--rate", type=int, default=10_000, help="notifications a second")
    add("--tokens", default="lwm2m_scale.json")
    add("--again", action="store_true")
    given = parser.parse_args()
    gateway, devices = Gateway(given.pid), Devices(given.port)
    if given.again:
        with open(given.tokens) as file:
            known = json.load(file)
        devices.tokens = {int(device): bytes.fromhex(token) for device, token in known["tokens"].items()}
    else:
        cpu, before, start = gateway.cpu(), gateway.mebibytes(), time.time()
        devices.register(given.devices, 600)
        each = (gateway.mebibytes() - before) * 1024 / given.devices
        seconds = time.time() - start
        print(f"registered {len(devices.registered)}, observed {len(devices.tokens)} in {seconds:.1f} s")
        print(f"CPU {gateway.cpu() - cpu:.1f} s, RSS {gateway.mebibytes():.0f} MiB, {each:.2f} KiB each")
        tokens = {device: token.hex() for device, token in devices.tokens.items()}
        with open(given.tokens, "w") as file:
            json.dump({"tokens": tokens}, file)
    cpu = gateway.cpu()
    seconds = devices.notify(given.notifications, given.rate, 1_000 if given.again else 1)
    time.sleep(3)
    million = (gateway.cpu() - cpu) / given.notifications * 1e6
    print(f"notified {given.notifications} in {seconds:.1f} s: {million:.1f} CPU s for a million, RSS {gateway.mebibytes():.0f} MiB")


if __name__ == "__main__":
    main()
