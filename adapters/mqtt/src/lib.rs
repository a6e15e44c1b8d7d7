//! The MQTT endpoint: one remote client, all three versions, without I/O.
