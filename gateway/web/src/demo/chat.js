// A chat over STOMP, by each transport that the gateway has for browsers.

import { Client } from "@stomp/stompjs";
import SockJS from "sockjs-client";

/** SockJS' names of its transports; `websocket` alone is STOMP over WebSocket without SockJS. */
const SOCKJS = [
  "websocket",
  "xhr-streaming",
  "eventsource",
  "iframe-eventsource",
  "htmlfile",
  "iframe-htmlfile",
  "xhr-polling",
  "iframe-xhr-polling",
  "jsonp-polling",
];
/** Messages that are shown. */
const MOST = 200;

const at = (id) => document.getElementById(id);
let client = null;
let connections = 0;

function show(state) {
  at("state").value = state;
  const connected = state === "connected";
  at("state").classList.toggle("connected", connected);
  at("send").disabled = !connected;
  at("connect").textContent = client?.active ? "Disconnect" : "Connect";
}

/** What the gateway, or the browser, said last that is wrong: it stays until the next try. */
function complain(text) {
  at("error").value = text;
  at("error").hidden = !text;
}

/** Whether SockJS can use it here. `htmlfile` without an iframe is for pages of the listener itself. */
function works(transport, sockjs) {
  return transport !== "htmlfile" || (sockjs && new URL(sockjs).origin === location.origin);
}

/** Listeners for STOMP that browsers can use: `[{ kind: "ws" | "sockjs", port, path, tls }]`. */
async function listeners() {
  const answer = await fetch("listeners.json");
  return answer.ok ? answer.json() : [];
}

async function offer() {
  const found = await listeners().catch(() => []);
  const address = (kind, scheme) => {
    // A secure page may use secure listeners alone; any other takes what is there.
    const of = found.filter((listener) => listener.kind === kind);
    const best = of.find((listener) => listener.tls === (location.protocol === "https:")) ?? of[0];
    return best ? `${scheme}${best.tls ? "s" : ""}://${location.hostname}:${best.port}${best.path}` : "";
  };
  const [ws, sockjs] = [address("ws", "ws"), address("sockjs", "http")];
  const transports = at("transport");
  transports.add(new Option("WebSocket", "ws"));
  for (const name of SOCKJS.filter((name) => works(name, sockjs))) {
    transports.add(new Option(`SockJS: ${name}`, name));
  }
  const wanted = new URLSearchParams(location.search);
  transports.value = wanted.get("transport") ?? (ws ? "ws" : "websocket");
  const choose = () => {
    at("address").value = transports.value === "ws" ? ws : sockjs;
  };
  transports.onchange = choose;
  choose();
  show("not connected");
}

function add(frame) {
  const item = document.createElement("li");
  const part = (tag, text) => item.appendChild(document.createElement(tag)).append(text);
  part("b", frame.headers.name ?? frame.headers.destination);
  part("span", frame.body);
  if (frame.headers.retain === "true") {
    part("small", "retained");
  }
  const list = at("messages");
  list.append(item);
  while (list.children.length > MOST) {
    list.firstChild.remove();
  }
  list.scrollTop = list.scrollHeight;
}

function connect() {
  const transport = at("transport").value;
  const address = at("address").value;
  const credentials = at("login").value && { login: at("login").value, passcode: at("passcode").value };
  client = new Client({
    connectHeaders: { ...credentials },
    reconnectDelay: 2000,
    onConnect: () => {
      at("state").dataset.connections = connections += 1;
      complain("");
      show("connected");
      client.subscribe(
        at("topic").value,
        (frame) => {
          add(frame);
          frame.ack();
        },
        { ack: "client-individual" },
      );
    },
    onStompError: (frame) => {
      complain(frame.headers.message ?? "refused");
      client.deactivate();
    },
    onWebSocketClose: (event) => {
      // Of an end that has no reason there is nothing to say, and what an ERROR said is better.
      if (event?.reason && event.code !== 1000 && at("error").hidden) {
        complain(`${event.code} ${event.reason}`);
      }
      show(client?.active ? "lost, tries again" : "not connected");
    },
  });
  if (transport === "ws") {
    client.brokerURL = address;
  } else {
    client.webSocketFactory = () => new SockJS(address, null, { transports: [transport] });
  }
  client.activate();
  show("connects");
}

at("connection").onsubmit = async (event) => {
  event.preventDefault();
  if (client?.active) {
    await client.deactivate();
    show("not connected");
  } else {
    complain("");
    connect();
  }
};

const hint = () => {
  const topic = at("topic").value;
  // As a shell takes it.
  at("hint").textContent = /^[\w/.-]+$/.test(topic) ? topic : `'${topic.replaceAll("'", "'\\''")}'`;
};
at("topic").oninput = hint;
hint();

at("say").onsubmit = (event) => {
  event.preventDefault();
  client.publish({
    destination: at("topic").value,
    body: at("text").value,
    headers: { name: at("name").value, ...(at("retain").checked && { retain: "true" }) },
  });
  at("text").value = "";
};

offer();
