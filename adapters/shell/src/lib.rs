//! The tokio shell: listeners, links and the loop that drives an endpoint.
