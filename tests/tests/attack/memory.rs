//! What attacks make the gateway keep.
