//! The shared vocabulary of Headgate: topics, messages, commands and events of the bus.
