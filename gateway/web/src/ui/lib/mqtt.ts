// MQTT.js, in a chunk of its own.

export { default } from "mqtt";
