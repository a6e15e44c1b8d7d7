//! Connections that wait for a session until the one that has it has left. \[MQTT-3.1.4-3\]
//!
//! Always true: one connection waits for each client's session at most, and each waits for one.

use hashbrown::HashMap;
use headgate_model::{ClientId, EndpointId, Open};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct TakeOvers {
    next: BTreeMap<ClientId, (EndpointId, Open)>,
    waits_for: HashMap<EndpointId, ClientId>,
}

impl TakeOvers {
    /// The connection waits for its client's session. Whoever waited for it before does not any more.
    pub(crate) fn wait(&mut self, endpoint: EndpointId, open: Open) -> Option<EndpointId> {
        let client = open.client.client_id().clone();
        self.waits_for.insert(endpoint, client.clone());
        let (earlier, _) = self.next.insert(client, (endpoint, open))?;
        self.waits_for.remove(&earlier);
        Some(earlier)
    }

    /// The connection has gone.
    pub(crate) fn forget(&mut self, endpoint: EndpointId) {
        if let Some(client) = self.waits_for.remove(&endpoint) {
            self.next.remove(&client);
        }
    }

    /// Who gets the client's session next.
    pub(crate) fn take(&mut self, client: &ClientId) -> Option<(EndpointId, Open)> {
        let (endpoint, open) = self.next.remove(client)?;
        self.waits_for.remove(&endpoint);
        Some((endpoint, open))
    }
}
