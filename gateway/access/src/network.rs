//! Networks and address rules as they are written in settings.
//!
//! Always true: IPv4-mapped IPv6 addresses are looked at as the IPv4 addresses that they are.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A network, `10.0.0.0/8`, or one address, `10.0.0.7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Network(IpNet);

/// One line of an access list: `allow 10.0.0.0/8`, `deny all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = r"^(allow|deny) (all|[0-9A-Fa-f:./]+)$"))]
pub struct AddressRule {
    allow: bool,
    /// `None`: all.
    network: Option<Network>,
}

/// An access list. The first rule that matches decides; where none does, the address is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct AddressRules(pub Vec<AddressRule>);

/// What is wrong with a network or rule.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseRuleError {
    /// Neither an address nor a network.
    #[error("`{0}` is no address and no network such as 10.0.0.0/8")]
    Network(String),
    /// Neither `allow` nor `deny` in front.
    #[error("`{0}` is no rule such as \"allow 10.0.0.0/8\" or \"deny all\"")]
    Rule(String),
}

/// Who counts as one where addresses are counted: an IPv4 address, however it is written, or the IPv6 /64 that one subscriber gets; `::1` is itself.
pub fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        other => other,
    }
}

impl Network {
    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl AddressRules {
    /// Whether it keeps nobody out although there are rules: what no rule is about may come in.
    pub fn is_vain(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|rule| rule.allow && rule.network.is_some())
    }

    /// Whether `address` may connect.
    pub fn allow(&self, address: IpAddr) -> bool {
        let matching = self
            .0
            .iter()
            .find(|rule| rule.network.is_none_or(|network| network.contains(address)));
        matching.is_none_or(|rule| rule.allow)
    }
}

impl FromStr for Network {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, ParseRuleError> {
        let network = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let network = network.map_err(|_| ParseRuleError::Network(text.into()))?;
        Ok(Self(unmapped(network)))
    }
}

/// Peers are shown by their IPv4 address where that is mapped into IPv6: so are networks. RFC 4291 §2.5.5.2
fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    let v4 = mapped.and_then(|(address, prefix)| IpNet::new(address.into(), prefix).ok());
    v4.unwrap_or(network)
}

impl FromStr for AddressRule {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, ParseRuleError> {
        let mut words = text.split_whitespace();
        let (Some(verb), Some(whom), None) = (words.next(), words.next(), words.next()) else {
            return Err(ParseRuleError::Rule(text.into()));
        };
        let allow = match verb {
            "allow" => true,
            "deny" => false,
            _ => return Err(ParseRuleError::Rule(text.into())),
        };
        let network = if whom == "all" { None } else { Some(whom.parse()?) };
        Ok(Self { allow, network })
    }
}

impl TryFrom<String> for Network {
    type Error = ParseRuleError;

    fn try_from(text: String) -> Result<Self, ParseRuleError> {
        text.parse()
    }
}

impl TryFrom<String> for AddressRule {
    type Error = ParseRuleError;

    fn try_from(text: String) -> Result<Self, ParseRuleError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl From<AddressRule> for String {
    fn from(rule: AddressRule) -> Self {
        rule.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for AddressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.allow { "allow" } else { "deny" };
        match self.network {
            Some(network) => write!(f, "{verb} {network}"),
            None => write!(f, "{verb} all"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(lines: &[&str]) -> AddressRules {
        AddressRules(lines.iter().map(|line| line.parse().unwrap()).collect())
    }

    fn allows(rules: &AddressRules, address: &str) -> bool {
        rules.allow(address.parse().unwrap())
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = rules(&["deny 10.1.0.0/16", "allow 10.0.0.0/8", "allow ::1", "deny all"]);
        assert!(allows(&rules, "10.2.0.1"));
        assert!(!allows(&rules, "10.1.0.1"));
        assert!(allows(&rules, "::1"));
        assert!(!allows(&rules, "192.0.2.1"));
    }

    #[test]
    fn without_a_matching_rule_the_address_is_allowed() {
        assert!(allows(&rules(&[]), "192.0.2.1"));
        assert!(allows(&rules(&["deny 10.0.0.0/8"]), "192.0.2.1"));
    }

    #[test]
    fn an_ipv4_rule_holds_for_ipv4_over_a_dual_stack_socket() {
        assert!(!allows(&rules(&["deny 10.0.0.0/8"]), "::ffff:10.0.0.1"));
    }

    #[test]
    fn what_is_no_rule_is_told() {
        for wrong in [
            "",
            "allow",
            "permit all",
            "allow 10.0.0.0/33",
            "allow 10.0.0.0/8 now",
            "deny everyone",
        ] {
            assert!(wrong.parse::<AddressRule>().is_err(), "{wrong}");
        }
    }
}
