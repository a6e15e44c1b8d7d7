"""A modem for QEMU: AT commands with a SIM that wants its PIN, and the provider behind it, PPP onto a TUN device of this machine.

It listens on a Unix socket, for a serial line of QEMU. RFC 1661 (PPP), RFC 1662 (framing), RFC 1332 (addresses), RFC 1334 (PAP).
"""

import fcntl
import os
import pathlib
import re
import socket
import struct
import subprocess
import threading

LCP, PAP, IPCP, IP = 0xC021, 0xC023, 0x8021, 0x0021
REQUEST, ACK, NAK, REJECT, TERMINATE, TERMINATED, PROTOCOL_REJECT, ECHO, ECHOED = 1, 2, 3, 4, 5, 6, 8, 9, 10
AUTHENTICATION, ADDRESS, NAME_SERVER = 3, 3, 129
FLAG, ESCAPE = 0x7E, 0x7D
TUN = "headgate-modem"
PROVIDER, MACHINE = "10.0.4.1", "10.0.4.2"


def check_sum(data: bytes) -> int:
    fcs = 0xFFFF
    for byte in data:
        fcs ^= byte
        for _ in range(8):
            fcs = fcs >> 1 ^ (0x8408 if fcs & 1 else 0)
    return fcs ^ 0xFFFF


def options(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while len(data) >= 2 and data[1] >= 2:
        found.append((data[0], data[2 : data[1]]))
        data = data[data[1] :]
    return found


def packed(pairs: list[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes([kind, len(value) + 2]) + value for kind, value in pairs)


class Modem:
    def __init__(self, path: pathlib.Path, pin: str, account: tuple[str, str]):
        self.pin, self.account = pin, account
        self.tries, self.is_open = 3, False
        self.heard: list[str] = []  # commands
        self.is_deaf = False  # answers nothing, on no layer: the provider is gone
        self.calls = self.hung_up = 0
        self.is_in_call = self.is_known = False
        self.server = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        self.server.bind(str(path))
        self.server.listen()
        self.line: socket.socket | None = None
        self.tun = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self.tun, 0x400454CA, struct.pack("16sH", TUN.encode(), 0x1001))  # TUNSETIFF: IFF_TUN, IFF_NO_PI
        subprocess.run(["ip", "address", "add", PROVIDER, "peer", MACHINE, "dev", TUN], check=True)
        subprocess.run(["ip", "link", "set", TUN, "up"], check=True)
        threading.Thread(target=self.serve, daemon=True).start()
        threading.Thread(target=self.forward, daemon=True).start()

    def power_off(self) -> None:
        """The SIM wants its PIN again, and knows how often it was wrong."""
        self.is_open = False

    def serve(self) -> None:
        while True:
            self.line, _ = self.server.accept()
            try:
                while self.commands():
                    self.call()
                    self.is_in_call = False
                    self.hung_up += 1
            except OSError:
                self.is_in_call = False  # QEMU was killed

    def forward(self) -> None:
        while True:
            packet = os.read(self.tun, 2048)
            try:
                if self.is_in_call and not self.is_deaf:
                    self.send(IP, packet)
            except OSError:
                pass  # QEMU was killed

    # AT commands

    def commands(self) -> bool:
        """Until one dials. Whether there is a line still."""
        typed = b""
        while True:
            byte = self.line.recv(1)
            if not byte:
                return False
            if byte not in b"\r\n":
                typed = (typed + byte)[-200:]
                continue
            command, typed = typed.decode("ascii", "replace").strip("\x7e\x00 "), b""
            # What pppd said last may still be on the line.
            command = command[command.rfind("AT") :] if "AT" in command else ""
            if not command or self.is_deaf:
                continue
            self.heard.append(command)
            answer = self.answer(command)
            self.line.sendall(f"\r\n{answer}\r\n".encode())
            if answer.startswith("CONNECT"):
                return True

    def answer(self, command: str) -> str:
        if command == "AT+CPIN?":
            return "+CPIN: " + ("READY" if self.is_open else "SIM PIN" if self.tries else "SIM PUK") + "\r\n\r\nOK"
        entered = re.fullmatch(r'AT\+CPIN="(\d+)"', command)
        if entered:
            self.is_open = self.tries > 0 and entered.group(1) == self.pin
            self.tries = 3 if self.is_open else max(0, self.tries - 1)
            return "OK" if self.is_open else "+CME ERROR: 16"
        if command.startswith("ATD"):
            return "CONNECT 115200" if self.is_open else "NO CARRIER"
        return "OK"

    # PPP

    def call(self) -> None:
        self.calls += 1
        self.is_in_call = self.is_known = False
        frame, is_escaped = bytearray(), False
        while True:
            data = self.line.recv(4096)
            if not data:
                raise OSError
            for byte in data:
                if byte == FLAG:
                    if len(frame) > 4 and check_sum(frame[:-2]) == int.from_bytes(frame[-2:], "little") and not self.take(bytes(frame[:-2])):
                        self.line.sendall(b"\r\nNO CARRIER\r\n")
                        return
                    frame, is_escaped = bytearray(), False
                elif byte == ESCAPE:
                    is_escaped = True
                else:
                    frame.append(byte ^ 0x20 if is_escaped else byte)
                    is_escaped = False
            # Who speaks so has hung up.
            if frame.endswith((b"AT\r", b"+++")):
                return

    @staticmethod
    def message(code: int, body: bytes, number: int = 1) -> bytes:
        return struct.pack(">BBH", code, number, len(body) + 4) + body

    def send(self, protocol: int, body: bytes) -> None:
        data = b"\xff\x03" + struct.pack(">H", protocol) + body
        data += check_sum(data).to_bytes(2, "little")
        escaped = b"".join(bytes([ESCAPE, byte ^ 0x20]) if byte < 0x20 or byte in (FLAG, ESCAPE) else bytes([byte]) for byte in data)
        self.line.sendall(bytes([FLAG]) + escaped + bytes([FLAG]))

    def take(self, frame: bytes) -> bool:
        """One frame; whether the call goes on."""
        if self.is_deaf:
            return True
        frame = frame.removeprefix(b"\xff\x03")
        size = 1 if frame[0] & 1 else 2
        protocol, body = int.from_bytes(frame[:size], "big"), frame[size:]
        if protocol == IP:
            os.write(self.tun, body)
            return True
        code, number, length = struct.unpack_from(">BBH", body)
        rest = body[4:length]
        if protocol == LCP and code == REQUEST:
            # What was asked before pppd listened is lost: so with each question of its own.
            self.send(LCP, self.message(REQUEST, packed([(AUTHENTICATION, struct.pack(">H", PAP))])))
            self.send(LCP, self.message(ACK, rest, number))
        elif protocol == LCP and code == ECHO:
            self.send(LCP, self.message(ECHOED, bytes(4), number))
        elif protocol == LCP and code == TERMINATE:
            self.send(LCP, self.message(TERMINATED, b"", number))
            return False
        elif protocol == PAP:
            self.is_known = rest == b"".join(bytes([len(word)]) + word.encode() for word in self.account)
            self.send(PAP, self.message(ACK if self.is_known else NAK, b"\0", number))
            if self.is_known:
                self.send(IPCP, self.message(REQUEST, packed([(ADDRESS, socket.inet_aton(PROVIDER))])))
        elif protocol == IPCP and code == REQUEST and self.is_known:
            self.agree(options(rest), number)
        elif protocol not in (LCP, IPCP):
            self.send(LCP, self.message(PROTOCOL_REJECT, struct.pack(">H", protocol) + body))
        return True

    def agree(self, wanted: list[tuple[int, bytes]], number: int) -> None:
        """On the machine's address and name server."""
        given = {ADDRESS: socket.inet_aton(MACHINE), NAME_SERVER: socket.inet_aton(PROVIDER)}
        unknown = [(kind, value) for kind, value in wanted if kind not in given]
        others = [(kind, given[kind]) for kind, value in wanted if kind in given and value != given[kind]]
        if unknown:
            self.send(IPCP, self.message(REJECT, packed(unknown), number))
        elif others:
            self.send(IPCP, self.message(NAK, packed(others), number))
        else:
            self.send(IPCP, self.message(ACK, packed(wanted), number))
            self.is_in_call = True
