"""mqtt-sn-12 as a command for the black-box tests: takes one JSON object, prints a line of JSON for every message."""

import json
import os
import sys
import time

from mqttsn12.MqttSnConstants import MqttSnConstants
from mqttsn12.client.MqttSnClient import MqttSnClient, MqttSnListener
from mqttsn12.packets import PublishPacket

job = json.loads(sys.argv[1])


class Client(MqttSnClient):
    """Its own polling compares a QoS with a flag, and so never acknowledges what comes at QoS 1."""

    def wait_for(self, blocking, msg_type):
        found = super().wait_for(blocking, msg_type)
        if found is not None and msg_type == MqttSnConstants.TYPE_PUBLISH:
            packet = PublishPacket()
            packet.decode(found)
            if packet.get_qos() == MqttSnConstants.QOS_1:
                self.send_puback(packet, MqttSnConstants.ACCEPTED)
        return found


class Printer(MqttSnListener):
    def message_arrived(self, m):
        line = {
            "topic": m.get_topic_name(),
            "qos": m.get_qos(),
            "retain": bool(m.get_retain()),
            "payload": m.get_payload().decode(),
        }
        print(json.dumps(line), flush=True)


client = Client()
client.set_client_id(job["id"])
client.set_clean_session(job["clean"])
client.set_keep_alive(job["keep_alive"])
client.set_timeout(60)
if job.get("will"):
    will = job["will"]
    client.set_will(will["topic"], will["payload"], will["qos"], will["retain"])
client.open(job["host"], job["port"])
client.send_connect()
for f in job["filters"]:
    client.send_subscribe(f, 1, Printer())
for m in job["messages"]:
    client.send_publish(m["topic"], m["payload"], m["qos"], m["retain"])
while job["filters"]:
    client.polling()
    time.sleep(0.01)
client.send_disconnect(job["sleep"])
sys.stdout.flush()
# Its thread pool would be waited for.
os._exit(0)
