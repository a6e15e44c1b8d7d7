"""Eclipse paho as a command for the black-box tests: takes one JSON object, prints a line of JSON for every message."""

import json
import ssl
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

job = json.loads(sys.argv[1])
v5 = job["version"] == "5"
protocol = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}[job["version"]]
transport = "websockets" if job["transport"] in ("ws", "wss") else "tcp"

more = {} if v5 else {"clean_session": job["clean"]}
client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=job["id"], protocol=protocol, transport=transport, **more)
if job["transport"] in ("tls", "wss"):
    client.tls_set(ca_certs=job["ca"], tls_version=ssl.PROTOCOL_TLS_CLIENT)
if transport == "websockets":
    client.ws_set_options(path="/mqtt")
if job.get("will"):
    will = job["will"]
    client.will_set(will["topic"], will["payload"], will["qos"], will["retain"])


def fail(text):
    print(text, file=sys.stderr, flush=True)
    sys.stdout.flush()
    import os

    os._exit(1)


connected = threading.Event()


def on_connect(client, userdata, flags, reason, properties):
    if reason.is_failure:
        fail(f"refused: {reason}")
    if job.get("filters"):
        client.subscribe([(f, SubscribeOptions(qos=2)) if v5 else (f, 2) for f in job["filters"]])
    connected.set()


def on_message(client, userdata, m):
    line = {"topic": m.topic, "qos": m.qos, "retain": bool(m.retain), "payload": m.payload.decode()}
    print(json.dumps(line), flush=True)


client.on_connect = on_connect
client.on_message = on_message
options = {}
if v5:
    options["clean_start"] = job["clean"]
    options["properties"] = Properties(PacketTypes.CONNECT)
    if not job["clean"]:
        options["properties"].SessionExpiryInterval = 3600
client.connect("localhost", job["port"], keepalive=60, **options)
client.loop_start()
if not connected.wait(30):
    fail("no CONNACK")
published = [client.publish(m["topic"], m["payload"], m["qos"], m["retain"]) for m in job["messages"]]
for info in published:
    info.wait_for_publish(30)
    if not info.is_published():
        fail("not acknowledged")
if job.get("filters"):
    threading.Event().wait()
client.disconnect()
client.loop_stop()
