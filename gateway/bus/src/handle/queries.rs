//! What can be asked about the bus while it works: each answer is a page, and the lock is held for that page only. See [`crate::Page`].

use super::hub::Hub;
use crate::queries::{
    ClientInfo, DelayedCursor, DelayedInfo, DeliveryInfo, Page, QueryError, QueuePage, Receivers,
    SessionInfo, StoredCursor, SubscriptionCursor, SubscriptionInfo,
};
use crate::slow::SlowClient;
use headgate_model::datagram::Restored;
use headgate_model::{ClientId, Message, Subscription, Topic, TopicFilter};
use std::sync::Arc;

impl Hub {
    /// [`Bus::clients`](crate::Bus::clients)
    pub fn clients(&self, after: Option<&str>, limit: usize) -> Page<ClientInfo, ClientId> {
        self.0.core.lock().bus.clients(after, limit)
    }

    /// [`Bus::delayed_messages`](crate::Bus::delayed_messages)
    pub fn delayed_messages(
        &self,
        after: Option<DelayedCursor>,
        limit: usize,
    ) -> Page<DelayedInfo, DelayedCursor> {
        self.0.core.lock().bus.delayed_messages(after, limit)
    }

    /// [`Bus::notes`](crate::Bus::notes)
    pub fn notes(&self, prefix: &str, after: Option<&str>, limit: usize) -> Page<Restored, ClientId> {
        let core = self.0.core.lock();
        core.bus.notes(prefix, after, limit, self.clock().now())
    }

    /// [`Bus::slow`](crate::Bus::slow)
    pub fn slow(&self) -> Vec<SlowClient> {
        let core = self.0.core.lock();
        core.bus.slow(self.clock().now())
    }

    /// [`Bus::session_info`](crate::Bus::session_info)
    pub fn session(&self, client: &str) -> Option<SessionInfo> {
        self.0.core.lock().bus.session_info(client)
    }

    /// [`Bus::subscriptions`](crate::Bus::subscriptions)
    pub fn subscriptions(
        &self,
        client: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Option<Page<Subscription, String>> {
        self.0.core.lock().bus.subscriptions(client, after, limit)
    }

    /// [`Bus::all_subscriptions`](crate::Bus::all_subscriptions)
    pub fn all_subscriptions(
        &self,
        after: Option<&SubscriptionCursor>,
        limit: usize,
    ) -> Page<SubscriptionInfo, SubscriptionCursor> {
        self.0.core.lock().bus.all_subscriptions(after, limit)
    }

    /// [`Bus::retained`](crate::Bus::retained)
    pub fn retained(
        &self,
        filter: &TopicFilter,
        after: Option<&Topic>,
        limit: usize,
    ) -> Page<Arc<Message>, Topic> {
        let core = self.0.core.lock();
        core.bus.retained(filter, after, limit, self.clock().now())
    }

    /// [`Bus::has_filter`](crate::Bus::has_filter)
    pub fn has_filter(&self, filter: &TopicFilter) -> bool {
        self.0.core.lock().bus.has_filter(filter)
    }

    /// [`Bus::receivers`](crate::Bus::receivers)
    pub fn receivers(&self, topic: &Topic, limit: usize) -> Receivers {
        self.0.core.lock().bus.receivers(topic, limit)
    }

    /// What waits for a client in the store alone, behind what [`Hub::queue`] shows: by priority, highest first, and there in order. The store reads it when
    /// it has written what comes before.
    pub async fn stored_queue(
        &self,
        client: &str,
        after: Option<StoredCursor>,
        limit: usize,
    ) -> Result<Page<DeliveryInfo, StoredCursor>, QueryError> {
        let request = self.turn(|bus, _, _| bus.ask_for_stored(client, after, limit));
        let Some(request) = request else {
            return Ok(Page {
                rows: Vec::new(),
                next: None,
            });
        };
        self.ask_store(request)?.wait().await
    }

    /// [`Bus::queue`](crate::Bus::queue)
    pub fn queue(&self, client: &str, after: usize, limit: usize) -> Option<QueuePage> {
        self.0.core.lock().bus.queue(client, after, limit)
    }
}
