//! APIs of other brokers, so that programs written for them need not be changed: the form of EMQ 2.2 ([`form`]), `/api/v2` of EMQ 2.3 ([`v2`]),
//! `/api/v4` of EMQX 4 ([`v4`]) and `/api/v5` of EMQX 5 ([`v5`]). Each has its own words for what it answers; what is done is done as by the gateway's own API.
//!
//! Always true: who is not known is told so before anything else is; who has not the role is refused; what changes something is in the audit log; and no
//! list holds the bus for more than a page of it.

mod bans;
mod basic;
mod deeds;
mod form;
mod pages;
mod table;
mod told;
mod v2;
mod v4;
mod v5;

use super::guard;
use super::server::Control;
use axum::Router;
use axum::middleware::from_fn_with_state;

/// All of them. Nobody is asked anything before there is an administrator.
pub(super) fn router(control: &Control) -> Router {
    let tables = [
        (v2::PREFIX, v2::table().route(control)),
        (v4::PREFIX, v4::table().route(control)),
        (v5::PREFIX, v5::table().route(control)),
    ];
    let mut router = Router::new().route("/mqtt/publish", form::route(control.clone()));
    for (prefix, table) in tables {
        router = router
            .route(prefix, table.clone())
            .route(&format!("{prefix}/"), table.clone())
            .route(&format!("{prefix}/{{*path}}"), table);
    }
    router.layer(from_fn_with_state(control.clone(), guard::set_up_first))
}
