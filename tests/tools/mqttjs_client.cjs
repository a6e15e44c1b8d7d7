// MQTT.js as a command for the black-box tests: takes one JSON object, prints a line of JSON for every message.
const fs = require('node:fs');
const path = require('node:path');

const mqtt = require(path.join(process.env.MQTTJS_HOME, 'node_modules', 'mqtt'));

const job = JSON.parse(process.argv[2]);
const v5 = job.version === '5';
const scheme = { tcp: 'mqtt', tls: 'mqtts', ws: 'ws', wss: 'wss' }[job.transport];
const suffix = job.transport.startsWith('ws') ? '/mqtt' : '';

const client = mqtt.connect(`${scheme}://localhost:${job.port}${suffix}`, {
    clientId: job.id,
    clean: job.clean,
    protocolVersion: { '3.1': 3, '3.1.1': 4, 5: 5 }[job.version],
    protocolId: job.version === '3.1' ? 'MQIsdp' : 'MQTT',
    properties: v5 && !job.clean ? { sessionExpiryInterval: 3600 } : undefined,
    reconnectPeriod: 0,
    ca: job.ca ? [fs.readFileSync(job.ca)] : undefined,
    will: job.will ?? undefined,
});

function fail(error) {
    console.error(String(error));
    process.exit(1);
}

client.on('error', fail);
client.on('message', (topic, payload, packet) => {
    const line = { topic, qos: packet.qos, retain: packet.retain, payload: payload.toString() };
    fs.writeSync(1, JSON.stringify(line) + '\n');
});
client.on('connect', async () => {
    try {
        if (job.filters.length > 0) await client.subscribeAsync(job.filters, { qos: 2 });
        for (const m of job.messages) {
            await client.publishAsync(m.topic, m.payload, { qos: m.qos, retain: m.retain });
        }
        if (job.filters.length === 0) await client.endAsync();
    } catch (error) {
        fail(error);
    }
});
