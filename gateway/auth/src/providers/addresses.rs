//! Clients that are let in, or kept out, by where they come from.

use crate::chain::{Attempt, Checking, Prospect, Provider, Verdict};
use crate::settings::{AclEffect, AddressLogin};
use headgate_model::access::AuthRefusal;
use std::future::ready;
use std::net::IpAddr;

/// The first entry that has the address decides; addresses that none has are not known here.
#[derive(Debug)]
pub(crate) struct Addresses(pub Vec<AddressLogin>);

impl Provider for Addresses {
    fn name(&self) -> &'static str {
        "addresses"
    }

    fn check<'a>(&'a self, attempt: &'a Attempt) -> Checking<'a> {
        Box::pin(ready(self.verdict(attempt.address)))
    }

    fn foresee(&self, asked: &Prospect<'_>) -> Verdict {
        self.verdict(asked.address)
    }
}

impl Addresses {
    fn verdict(&self, address: IpAddr) -> Verdict {
        let entry = self.0.iter().find(|entry| entry.network.contains(address));
        match entry {
            None => Verdict::Ignore,
            Some(entry) if entry.effect == AclEffect::Allow => {
                Verdict::Allow(entry.user.as_deref().map(Into::into))
            }
            Some(_) => Verdict::deny(
                "nobody is let in from this address (auth.addresses)",
                AuthRefusal::NotAuthorized,
            ),
        }
    }
}
