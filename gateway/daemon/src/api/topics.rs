//! What is between clients: filters that are subscribed to, shared subscriptions, and messages that wait for their time.

use super::clients::{LOOKED_AT, Part, Rows};
use super::routes::Routes;
use super::server::{Answer, Control, Failure};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use headgate_admin::Role::Viewer;
use headgate_bus::{DelayedCursor, MAX_PAGE};
use headgate_model::store::MessageId;
use headgate_model::subscription::Share;
use headgate_model::{Instant, WallTime};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

pub(super) fn routes() -> Routes {
    Routes::default()
        .get(
            Viewer,
            "/topics",
            "Lists filters that somebody has subscribed to, in order, with how many have.",
            topics,
        )
        .get(
            Viewer,
            "/shared",
            "Lists shared subscriptions, with how many members each has.",
            shared,
        )
        .get(
            Viewer,
            "/delayed",
            "Lists messages that wait for their time, the next first.",
            delayed,
        )
}

/// A filter that somebody has subscribed to.
#[derive(Serialize, JsonSchema)]
struct TopicRow {
    filter: String,
    subscriptions: usize,
}

/// The first `limit` filters behind `after`. It walks through all subscriptions and keeps no more than the page needs.
async fn topics(State(control): State<Control>, Query(part): Query<Part>) -> Json<Rows<TopicRow>> {
    let limit = part.limit();
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    let mut cursor = None;
    loop {
        let page = control.hub.all_subscriptions(cursor.as_ref(), MAX_PAGE);
        for row in &page.rows {
            let filter = row.subscription.filter.as_str();
            if part.after.as_deref().is_some_and(|after| filter <= after) {
                continue;
            }
            match first.get_mut(filter) {
                Some(count) => *count += 1,
                None => {
                    first.insert(filter.to_owned(), 1);
                    // Another one is behind the page.
                    if first.len() > limit + 1 {
                        first.pop_last();
                    }
                }
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let more = first.len() > limit;
    let rows = first.into_iter().take(limit);
    let rows: Vec<TopicRow> = rows
        .map(|(filter, subscriptions)| TopicRow {
            filter,
            subscriptions,
        })
        .collect();
    let next = rows.last().filter(|_| more).map(|last| last.filter.clone());
    Json(Rows { rows, next })
}

/// A shared subscription.
#[derive(Serialize, JsonSchema)]
struct SharedRow {
    /// Its name: `g` of `$share/g/a/#`; `$queue` of `$queue/a/#`.
    group: String,
    filter: String,
    members: usize,
}

/// All shared subscriptions.
#[derive(Serialize, JsonSchema)]
struct SharedRows {
    rows: Vec<SharedRow>,
    /// Not all subscriptions were looked at: there are too many for one question.
    partial: bool,
}

async fn shared(State(control): State<Control>) -> Json<SharedRows> {
    let mut groups: BTreeMap<(String, String), usize> = BTreeMap::new();
    let (mut after, mut looked_at) = (None, 0);
    loop {
        let page = control.hub.all_subscriptions(after.as_ref(), MAX_PAGE);
        looked_at += page.rows.len();
        for row in &page.rows {
            let subscription = &row.subscription;
            if let Some(group) = &subscription.share {
                let group = match group {
                    Share::Group(name) => String::from_utf8_lossy(name).into_owned(),
                    Share::Queue => "$queue".to_owned(),
                };
                let key = (group, subscription.filter.as_str().to_owned());
                *groups.entry(key).or_default() += 1;
            }
        }
        let partial = page.next.is_some() && (looked_at >= 10 * LOOKED_AT || groups.len() >= LOOKED_AT);
        if page.next.is_none() || partial {
            let rows = groups.into_iter();
            let rows = rows.map(|((group, filter), members)| SharedRow {
                group,
                filter,
                members,
            });
            return Json(SharedRows {
                rows: rows.collect(),
                partial,
            });
        }
        after = page.next;
        tokio::task::yield_now().await;
    }
}

/// A message that waits for its time.
#[derive(Serialize, JsonSchema)]
struct DelayedRow {
    topic: String,
    qos: u8,
    retain: bool,
    /// Of its payload.
    bytes: usize,
    /// When it is published, in seconds since 1970.
    due_at: u64,
}

async fn delayed(State(control): State<Control>, Query(part): Query<Part>) -> Answer<Rows<DelayedRow>> {
    let after = part.after.as_deref().map(|after| {
        let cursor = after.split_once('.').and_then(|(due, id)| {
            Some(DelayedCursor(
                Instant(due.parse().ok()?),
                MessageId(id.parse().ok()?),
            ))
        });
        let wrong = || {
            Failure(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("`{after}` is no cursor"),
            )
        };
        cursor.ok_or_else(wrong)
    });
    let page = control.hub.delayed_messages(after.transpose()?, part.limit());
    let epoch = control.hub.clock().epoch();
    let rows = page.rows.iter().map(|row| DelayedRow {
        topic: row.message.topic.to_string(),
        qos: row.message.qos as u8,
        retain: row.message.retain,
        bytes: row.message.payload.len(),
        due_at: WallTime::of(row.due, epoch).0 / 1_000,
    });
    Ok(Json(Rows {
        rows: rows.collect(),
        next: page
            .next
            .map(|DelayedCursor(due, id)| format!("{}.{}", due.0, id.0)),
    }))
}
