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
  for (const name of SOCKJS) {
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
      show(frame.headers.message ?? "refused");
      client.deactivate();
    },
    onWebSocketClose: () => show(client?.active ? "lost, tries again" : "not connected"),
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
    connect();
  }
};

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
