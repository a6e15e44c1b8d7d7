//! Durable sessions, queues and retained messages.
