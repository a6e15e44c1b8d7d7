//! What the tests of Headgate share.

pub mod sim;
