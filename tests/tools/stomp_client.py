"""stomp.py over TCP, TLS or WebSocket: connects, subscribes, sends, receives, acknowledges, refuses, loses its connection and comes back.

    python stomp_client.py KIND PORT ID VERSION [CAFILE]

KIND is `tcp`, `tls` or `ws`; VERSION `1.0`, `1.1` or `1.2`. An MQTT client answers on `stomp/ID/answer` what is sent to `stomp/ID/question`. The last line is `done`.
"""

import queue
import sys

import stomp

PATIENCE = 60
CLASSES = {
    "1.0": (stomp.Connection10, None),
    "1.1": (stomp.Connection11, stomp.WSStompConnection),
    "1.2": (stomp.Connection12, stomp.WSStompConnection),
}

kind, port, client_id, version = sys.argv[1:5]
cafile = sys.argv[5] if len(sys.argv) > 5 else None


class Inbox(stomp.ConnectionListener):
    """Messages, receipts and errors, as they come."""

    def __init__(self):
        self.messages, self.receipts = queue.Queue(), queue.Queue()

    def on_message(self, frame):
        self.messages.put(frame)

    def on_receipt(self, frame):
        self.receipts.put(frame.headers["receipt-id"])

    def on_error(self, frame):
        print("ERROR:", frame.headers.get("message"), file=sys.stderr)
        self.messages.put(frame)


def connect():
    plain, websocket = CLASSES[version]
    if kind == "ws":
        connection = websocket([("127.0.0.1", int(port))], ws_path="/stomp", header={"Sec-WebSocket-Protocol": "v12.stomp, v11.stomp"})
    else:
        connection = plain([("127.0.0.1", int(port))])
    if kind == "tls":
        connection.set_ssl([("127.0.0.1", int(port))], ca_certs=cafile)
    inbox = Inbox()
    connection.set_listener("", inbox)
    connection.connect(wait=True, headers={"client-id": client_id})
    return connection, inbox


receipts = 0


def send(connection, inbox, destination, body, **headers):
    """Waits until the gateway has it."""
    global receipts
    receipts += 1
    connection.send(destination, body, headers={**headers, "receipt": str(receipts)})
    assert inbox.receipts.get(timeout=PATIENCE) == str(receipts)


def settle(connection, frame, subscription, refuse=False):
    """As each version has it; 1.0 cannot refuse."""
    if version == "1.2":
        word = connection.nack if refuse else connection.ack
        word(frame.headers["ack"])
    elif version == "1.1":
        word = connection.nack if refuse else connection.ack
        word(frame.headers["message-id"], subscription)
    else:
        connection.ack(frame.headers["message-id"])


def subscribe(connection, destination, subscription, **headers):
    individual = "client" if version == "1.0" else "client-individual"
    connection.subscribe(destination, id=subscription, ack=individual, headers=headers)


def expect(inbox, body, redelivered):
    frame = inbox.messages.get(timeout=PATIENCE)
    assert frame.body == body, (frame.body, body)
    assert (frame.headers.get("redelivered") == "true") == redelivered, frame.headers
    return frame


question, answer, kept = (f"stomp/{client_id}/{what}" for what in ("question", "answer", "kept"))
connection, inbox = connect()
subscribe(connection, answer, "answers")
text = "line\nbreak, \u00e9\u4e16"
send(connection, inbox, question, text, colour="red")
frame = expect(inbox, text, False)
assert frame.headers["colour"] == "red", frame.headers
assert frame.headers["destination"] == answer, frame.headers
settle(connection, frame, "answers")

subscribe(connection, kept, "kept", durable="true")
send(connection, inbox, kept, "one")
frame = expect(inbox, "one", False)
if version != "1.0":
    settle(connection, frame, "kept", refuse=True)
    frame = expect(inbox, "one", True)
settle(connection, frame, "kept")
send(connection, inbox, kept, "two")
expect(inbox, "two", False)
# Without a word: what was not acknowledged comes again, and what was, does not.
connection.transport.disconnect_socket()

connection, inbox = connect()
subscribe(connection, kept, "kept", durable="true")
frame = expect(inbox, "two", True)
settle(connection, frame, "kept")
send(connection, inbox, kept, "three")
settle(connection, expect(inbox, "three", False), "kept")
connection.disconnect(receipt="bye")
print("done")
