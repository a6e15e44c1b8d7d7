"""A disk for QEMU, by NBD: it counts what is written to each partition, its power can be cut within a write, and it can forget what was not flushed.

The file has what was written at once. What a disk without power would have forgotten is undone afterwards.
"""

import os
import pathlib
import random
import socket
import struct
import threading
import uuid
from collections.abc import Callable
from typing import NamedTuple

SECTOR = 512
READ, WRITE, DISCONNECT, FLUSH, TRIM, ZEROES = 0, 1, 2, 3, 4, 6
OPTION_ABORT, OPTION_GO, OPTION_INFO = 2, 7, 6
UNSUPPORTED = 0x80000001
HAS_FLAGS, SENDS_FLUSH, SENDS_FUA = 1, 4, 8
FUA = 1  # of a write: it is on the disk before it is answered


class Write(NamedTuple):
    """A write, before it happens: of which partition, where in it."""

    partition: str
    at: int
    size: int


class Undo(NamedTuple):
    at: int
    old: bytes
    new: bytes


def partitions(disk: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Names of a GPT's partitions: where each begins, and where it ends."""
    found = {}
    with disk.open("rb") as file:
        file.seek(SECTOR)
        header = file.read(SECTOR)
        first, count, size = struct.unpack_from("<QII", header, 72)
        file.seek(first * SECTOR)
        for _ in range(count):
            entry = file.read(size)
            if uuid.UUID(bytes_le=entry[:16]).int:
                begin, end = struct.unpack_from("<QQ", entry, 32)
                found[entry[56:128].decode("utf-16-le").rstrip("\0")] = (begin * SECTOR, (end + 1) * SECTOR)
    return found


class Disk:
    """Serves one file to one QEMU after the other."""

    def __init__(self, file: pathlib.Path, path: pathlib.Path):
        self.file, self.path = file, path
        self.forgets: random.Random | None = None  # what was not flushed stays or is lost by this chance, when the power is cut
        # Told of each write, before it: how many bytes of it still come onto the disk before the power is cut; None: all, and the power stays.
        self.watch: Callable[[Write], int | None] | None = None
        self.cut = threading.Event()  # the watch has cut the power: QEMU hears nothing any more
        self.written: dict[str, int] = {}
        self.writes: list[Write] = []
        self.unflushed: list[Undo] = []
        self.lock = threading.Lock()
        self.speaking: list[threading.Thread] = []
        self.server = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        self.server.bind(str(path))
        self.server.listen()
        self.fd = os.open(file, os.O_RDWR)
        threading.Thread(target=self.serve, daemon=True).start()

    def power_on(self) -> None:
        self.cut.clear()
        self.written, self.writes, self.unflushed = {}, [], []
        self.places = partitions(self.file)

    def power_off(self) -> int:
        """QEMU is gone. How many writes were forgotten."""
        for thread in self.speaking:
            thread.join()  # what QEMU had handed over comes onto the disk
        self.speaking.clear()
        with self.lock:
            undone, self.unflushed = self.unflushed, []
            self.watch = None
        if not self.forgets:
            return 0
        for write in reversed(undone):
            os.pwrite(self.fd, write.old, write.at)
        lost = 0
        for write in undone:
            if self.forgets.random() < 0.5:
                os.pwrite(self.fd, write.new, write.at)
            else:
                lost += 1
        return lost

    def content(self, partition: str) -> bytes:
        begin, end = self.places[partition]
        return os.pread(self.fd, end - begin, begin)

    def put(self, partition: str, content: bytes) -> None:
        os.pwrite(self.fd, content, self.places[partition][0])

    def replaced(self) -> None:
        """The file is another one now."""
        os.close(self.fd)
        self.fd = os.open(self.file, os.O_RDWR)

    def serve(self) -> None:
        while True:
            connection, _ = self.server.accept()
            thread = threading.Thread(target=self.speak, args=(connection,), daemon=True)
            self.speaking.append(thread)
            thread.start()

    def speak(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            try:
                if self.negotiate(connection, stream):
                    while self.request(connection, stream):
                        pass
            except (OSError, struct.error):
                pass  # QEMU was killed

    def negotiate(self, connection: socket.socket, stream) -> bool:
        connection.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 1))
        stream.read(4)
        while True:
            _, option, length = struct.unpack(">QII", stream.read(16))
            stream.read(length)

            def reply(kind: int, body: bytes = b"", option: int = option) -> None:
                connection.sendall(struct.pack(">QIII", 0x3E889045565A9, option, kind, len(body)) + body)

            if option in (OPTION_GO, OPTION_INFO):
                size = os.fstat(self.fd).st_size
                reply(3, struct.pack(">HQH", 0, size, HAS_FLAGS | SENDS_FLUSH | SENDS_FUA))
                reply(1)
                if option == OPTION_GO:
                    return True
            elif option == OPTION_ABORT:
                reply(1)
                return False
            else:
                reply(UNSUPPORTED)

    def request(self, connection: socket.socket, stream) -> bool:
        _, flags, kind, handle, at, size = struct.unpack(">IHHQQI", stream.read(28))
        answer = struct.pack(">IIQ", 0x67446698, 0, handle)
        if kind == READ:
            connection.sendall(answer + os.pread(self.fd, size, at))
        elif kind == WRITE:
            if not self.write(at, stream.read(size), flags & FUA):
                return False
            connection.sendall(answer)
        elif kind == FLUSH:
            with self.lock:
                if self.cut.is_set():
                    return False
                self.unflushed.clear()
            connection.sendall(answer)
        else:
            return False
        return True

    def write(self, at: int, data: bytes, through: int) -> bool:
        """Whether there is power after it."""
        name, begin = next(((name, begin) for name, (begin, end) in self.places.items() if begin <= at < end), ("table", 0))
        write = Write(name, at - begin, len(data))
        with self.lock:
            if self.cut.is_set():
                return False
            left = self.watch(write) if self.watch else None
            if left is not None:
                data = data[:left]
            if self.forgets and not through:
                self.unflushed.append(Undo(at, os.pread(self.fd, len(data), at), data))
            os.pwrite(self.fd, data, at)
            self.written[name] = self.written.get(name, 0) + len(data)
            self.writes.append(write)
            if left is not None:
                # A torn write is on the disk as far as it came.
                self.unflushed = [undo for undo in self.unflushed if undo.at != at]
                self.cut.set()
        return left is None
