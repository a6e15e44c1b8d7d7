// STOMP.js over WebSocket, or over one of SockJS' transports: connects, subscribes, sends, receives, acknowledges, refuses, loses its connection and comes back.
//
//     node stompjs_client.cjs URL TRANSPORT ID
//
// TRANSPORT is `ws` or one of SockJS' names. An MQTT client answers on `stomp/ID/answer` what is sent to `stomp/ID/question`. The last line is `done`.

const { Client, ReconnectionTimeMode } = require("@stomp/stompjs");

const [url, transport, id] = process.argv.slice(2);
const durable = { id: "kept", ack: "client-individual", durable: "true" };

function client() {
  const client = new Client({
    connectHeaders: { "client-id": id },
    heartbeatIncoming: 1000,
    heartbeatOutgoing: 1000,
    reconnectDelay: 100,
    reconnectTimeMode: ReconnectionTimeMode?.LINEAR,
    onStompError: (frame) => fail(`ERROR: ${frame.headers.message}`),
  });
  const [WebSocket, SockJS] = [require("ws"), require("sockjs-client")];
  client.webSocketFactory = () => {
    const socket = transport === "ws" ? new WebSocket(url, ["v12.stomp"]) : new SockJS(url, null, { transports: [transport] });
    // Old clients of STOMP take no frame that is cut.
    socket.addEventListener("message", ({ data }) => /[\0\n]$/.test(data) || fail("a frame in two messages"));
    return socket;
  };
  return client;
}

function fail(why) {
  console.error(why);
  process.exit(1);
}

function check(what, found, expected) {
  if (JSON.stringify(found) !== JSON.stringify(expected)) {
    fail(`${what}: ${JSON.stringify(found)} instead of ${JSON.stringify(expected)}`);
  }
}

/** Runs `work` each time the client is connected. */
function connected(client) {
  return new Promise((resolve) => {
    client.onConnect = resolve;
    client.activate();
  });
}

/** Frames as they come, one at a time. */
function inbox() {
  const [frames, waiting] = [[], []];
  return {
    take: (frame) => (waiting.length ? waiting.shift()(frame) : frames.push(frame)),
    next: () => (frames.length ? Promise.resolve(frames.shift()) : new Promise((resolve) => waiting.push(resolve))),
  };
}

let receipts = 0;

/** Publishes, and waits until the gateway has it. */
function publish(client, message) {
  const receipt = `r${(receipts += 1)}`;
  return new Promise((resolve) => {
    client.watchForReceipt(receipt, resolve);
    client.publish({ ...message, headers: { ...message.headers, receipt } });
  });
}

async function main() {
  const first = client();
  await connected(first);
  const [answers, kept] = [inbox(), inbox()];
  first.subscribe(`stomp/${id}/answer`, answers.take, { ack: "client" });
  first.subscribe(`stomp/${id}/kept`, kept.take, durable);

  // MQTT answers, with the same body and headers.
  const body = 'line\nbreak, NUL-free, "quotes", \u00e9\u4e16';
  const headers = { "content-type": "text/plain", colour: "a:b\nc\\d" };
  await publish(first, { destination: `stomp/${id}/question`, body, headers });
  const answer = await answers.next();
  check("body", answer.body, body);
  check("content-type", answer.headers["content-type"], "text/plain");
  check("colour", answer.headers.colour, headers.colour);
  check("destination", answer.headers.destination, `stomp/${id}/answer`);
  answer.ack();

  // A long one.
  const long = "\u4e16".repeat(70000);
  await publish(first, { destination: `stomp/${id}/question`, body: long });
  const longAnswer = await answers.next();
  check("a long body", longAnswer.body === long, true);
  longAnswer.ack();

  // What is refused comes again.
  await publish(first, { destination: `stomp/${id}/kept`, body: "one" });
  const refused = await kept.next();
  check("first", [refused.body, refused.headers.redelivered], ["one", undefined]);
  refused.nack();
  const again = await kept.next();
  check("again", [again.body, again.headers.redelivered], ["one", "true"]);
  again.ack();

  // What is not acknowledged comes again on the next connection, and what was, does not.
  await publish(first, { destination: `stomp/${id}/kept`, body: "two" });
  check("unacknowledged", (await kept.next()).body, "two");
  const back = new Promise((resolve) => (first.onConnect = resolve));
  first.forceDisconnect();
  await back;
  const later = inbox();
  first.subscribe(`stomp/${id}/kept`, later.take, durable);
  const two = await later.next();
  check("after the reconnect", [two.body, two.headers.redelivered], ["two", "true"]);
  two.ack();
  await publish(first, { destination: `stomp/${id}/kept`, body: "three" });
  const three = await later.next();
  check("last", [three.body, three.headers.redelivered], ["three", undefined]);
  three.ack();
  await first.deactivate();
  console.log("done");
  process.exit(0);
}

setTimeout(() => fail("nothing more came"), 60000);
main().catch((error) => fail(error.stack));
