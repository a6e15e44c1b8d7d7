//! The protocols over connections that the gateway speaks. Adding one means a line in [`registry!`] and its section in `Config`: docs/adapters.md.

use crate::config::Config;
use headgate_model::{Fault, StreamProtocol};
use headgate_shell::Protocols;

/// Lists protocols, each with its section of the configuration.
macro_rules! registry {
    ($($protocol:ty => $section:ident,)*) => {
        /// What `protocol` of a listener may be.
        pub(crate) const NAMES: &[&str] = &[$(<$protocol>::NAME),*];

        /// Registers all of them.
        pub(crate) fn register(protocols: &mut Protocols, config: &Config) {
            $(protocols.register(<$protocol>::new(&config.$section, &config.node));)*
        }

        /// All that is wrong with their sections.
        pub(crate) fn faults(config: &Config) -> Vec<Fault> {
            let sections = [$((stringify!($section), <$protocol>::faults(&config.$section))),*];
            let below = |(section, faults): (&'static str, Vec<Fault>)| {
                faults.into_iter().map(move |fault| fault.below(section))
            };
            sections.into_iter().flat_map(below).collect()
        }
    };
}

registry! {
    headgate_mqtt::Mqtt => mqtt,
}
