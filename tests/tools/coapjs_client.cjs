// A CoAP client on npm's coap: one request, or an observation. Prints a line of JSON for each response.
// Usage: coapjs_client.cjs METHOD URI PAYLOAD CONFIRMABLE OBSERVE (a number of notifications, or 0)
const coap = require('coap');

const [method, uri, payload, confirmable, observe] = process.argv.slice(2);
const url = new URL(uri);
const request = coap.request({
  hostname: url.hostname,
  port: Number(url.port),
  pathname: url.pathname,
  query: url.search.slice(1),
  method,
  confirmable: confirmable === 'true',
  observe: Number(observe) > 0,
});
let left = Number(observe) + 1;
const tell = (code, body) => {
  console.log(JSON.stringify({ code, payload: body.toString() }));
  left -= 1;
  if (left <= 0) process.exit(0);
};
request.on('response', (response) => {
  if (Number(observe) > 0) {
    response.on('data', (body) => tell(response.code, body));
  } else {
    tell(response.code, response.payload);
  }
});
request.on('error', (error) => {
  console.error(String(error));
  process.exit(1);
});
request.end(payload);
