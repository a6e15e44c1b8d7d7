//! The publish/subscribe bus: routing, sessions, retained messages, wills.
