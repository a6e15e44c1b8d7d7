//! Messages and questions over HTTP, by the APIs of other brokers: each endpoint with its request and the exact answer.

mod bench;
mod form;
mod publish;
mod v2;
mod v4;
mod v5;
