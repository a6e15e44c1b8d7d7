"""tinydtls around MQTT-SN messages on stdin and stdout, for the black-box tests.

tinydtls_client.py HOST PORT IDENTITY HEXKEY

An MQTT-SN message says itself how long it is, so that stdin needs no frames.
"""

import os
import select
import socket
import sys

from DTLSSocket import dtls

host, port, identity, key = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode(), bytes.fromhex(sys.argv[4])
CONNECTED = 0x1DE
address = "::ffff:" + host
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
state = {"connected": False}


def send(to, data):
    return udp.sendto(data, (address, port))


def receive(_from, data):
    os.write(1, bytes(data))
    return len(data)


def event(_level, code):
    if code == CONNECTED:
        state["connected"] = True


tiny = dtls.DTLS(read=receive, write=send, event=event, pskId=identity, pskStore={identity: key})
dtls.setLogLevel(dtls.DTLS_LOG_EMERG)
# The session ends with the object.
session = tiny.connect(address, port, 0, 0)
waiting = b""
while True:
    sources = [udp, 0] if state["connected"] else [udp]
    ready, _, _ = select.select(sources, [], [], 1.0)
    if udp in ready:
        tiny.handleMessageAddr(address, port, udp.recv(2048))
    elif 0 in ready:
        more = os.read(0, 4096)
        if not more:
            break
        waiting += more
        while waiting and len(waiting) >= waiting[0]:
            message, waiting = waiting[: waiting[0]], waiting[waiting[0] :]
            tiny.write(session, message)
    else:
        tiny.checkRetransmit() if hasattr(tiny, "checkRetransmit") else None
