//! The network of a provisioning file: interfaces for systemd-networkd, Wi-Fi for wpa_supplicant, modems for pppd.
//!
//! Always true: each value is of a kind that cannot say more than one thing where it is written, and what is secret is in no error and no `Debug`.

use super::text::{is_host_name, is_name, secret, text};
use serde::Deserialize;
use std::net::IpAddr;
use std::str::FromStr;

/// Of routes by a gateway that the file names. Those of DHCP have 1024.
const GATEWAY_METRIC: u32 = 512;
/// Of routes by a modem: whatever else has a link is preferred.
const CELLULAR_METRIC: u32 = 4096;
/// The way out that the gateway has chosen has metric 1: firmware-image/root/usr/lib/headgate/wan
const LEAST_METRIC: u32 = 2;

/// An interface.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Fields")]
pub(crate) struct Network {
    pub(crate) interface: Interface,
    /// None: by DHCP.
    addresses: Vec<Subnet>,
    gateway: Option<IpAddr>,
    dns: Vec<IpAddr>,
    ntp: Vec<Host>,
    metric: Option<u32>,
    medium: Medium,
}

/// What it reaches the network by.
#[derive(Clone, Debug)]
enum Medium {
    Wire,
    Wifi(Wifi),
    Cellular(Cellular),
}

/// An interface, as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    /// `eth0`, `en*`
    interface: Interface,
    #[serde(default)]
    addresses: Vec<Subnet>,
    gateway: Option<IpAddr>,
    #[serde(default)]
    dns: Vec<IpAddr>,
    /// Time servers.
    #[serde(default)]
    ntp: Vec<Host>,
    /// Of several interfaces that have a link the one with the lowest metric is the way out.
    metric: Option<u32>,
    wifi: Option<Wifi>,
    cellular: Option<Cellular>,
}

/// A wireless network: WPA2 or WPA3 with a password, or open.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "WifiFields")]
struct Wifi {
    ssid: Ssid,
    /// None: everybody may join it, and read what is sent.
    password: Option<WifiPassword>,
    is_hidden: bool,
    country: Option<Country>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WifiFields {
    ssid: Ssid,
    password: Option<WifiPassword>,
    #[serde(default)]
    open: bool,
    #[serde(default)]
    hidden: bool,
    country: Option<Country>,
}

/// A modem that speaks AT commands and PPP on a serial line.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "CellularFields")]
struct Cellular {
    device: Device,
    apn: Apn,
    pin: Option<Pin>,
    account: Option<(Account, AccountPassword)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CellularFields {
    device: Device,
    apn: Apn,
    pin: Option<Pin>,
    user: Option<Account>,
    password: Option<AccountPassword>,
}

text!(
    Interface,
    "the name of a network interface, such as `eth0` or `en*`",
    |text| text.len() <= 15 && is_name(text.strip_suffix('*').unwrap_or(text))
);
text!(Host, "an address or a host name", |text| {
    IpAddr::from_str(text).is_ok() || is_host_name(text)
});
text!(
    Subnet,
    "an address with its network, such as `192.0.2.7/24`",
    |text| {
        let parsed = text.split_once('/').and_then(|(address, bits)| {
            let address = IpAddr::from_str(address).ok()?;
            let prefix = bits.parse::<u8>().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            Some(prefix <= most && bits == prefix.to_string())
        });
        parsed == Some(true)
    }
);
impl Subnet {
    /// Whether an address is of this network. All of `fe80::/10` is on every link.
    fn holds(&self, address: IpAddr) -> bool {
        let parsed = self.0.split_once('/');
        let parsed =
            parsed.and_then(|(own, bits)| Some((IpAddr::from_str(own).ok()?, bits.parse::<u32>().ok()?)));
        let shifted = |bits: u32, most: u32| most.saturating_sub(bits);
        match (parsed, address) {
            (Some((IpAddr::V4(own), bits)), IpAddr::V4(address)) => {
                let differs = (own.to_bits() ^ address.to_bits()).checked_shr(shifted(bits, 32));
                differs.unwrap_or(0) == 0
            }
            (_, IpAddr::V6(address)) if address.is_unicast_link_local() => true,
            (Some((IpAddr::V6(own), bits)), IpAddr::V6(address)) => {
                let differs = (own.to_bits() ^ address.to_bits()).checked_shr(shifted(bits, 128));
                differs.unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

text!(
    Ssid,
    "the name of a Wi-Fi network: 1 to 32 bytes, without control characters",
    |text| (1..=32).contains(&text.len()) && !text.contains(char::is_control)
);
text!(
    Country,
    "a country in two capital letters of ISO 3166, such as `DE`",
    |text| text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase())
);
text!(
    Device,
    "a serial line in /dev, such as `/dev/ttyUSB2`, of letters, digits and `._:+-`",
    |text| {
        let is_part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._:+-".contains(&b))
        };
        let below = text.strip_prefix("/dev/");
        text.len() <= 128 && below.is_some_and(|below| below.split('/').all(is_part))
    }
);
text!(
    Apn,
    "an access point name of letters, digits, dots, dashes and underscores",
    |text| text.len() <= 100 && is_name(text)
);
text!(
    Account,
    "a user name of printable ASCII without blanks, quotes, backslashes, `$` and `#`",
    is_account
);
secret!(
    AccountPassword,
    "a password of at most 100 characters of printable ASCII without blanks, quotes, backslashes, `$` and `#`",
    is_account
);
secret!(
    WifiPassword,
    "a password of Wi-Fi: 8 to 63 characters of printable ASCII, or a key of 64 hexadecimal digits",
    |text| {
        let is_passphrase =
            (8..=63).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b));
        is_passphrase || is_key(text)
    }
);
secret!(Pin, "a PIN: 4 to 8 digits, in quotation marks", |text| {
    (4..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
});

/// What pppd reads as one word in quotation marks.
fn is_account(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_graphic() && !b"\"'`\\$#".contains(&b);
    (1..=100).contains(&text.len()) && text.bytes().all(is_plain)
}

/// The key itself, which passwords are made into.
fn is_key(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What cannot be together.
#[derive(Debug, thiserror::Error)]
enum NetworkError {
    #[error("wifi and cellular: an interface is one of them")]
    TwoMedia,
    #[error("`{0}`: wifi and cellular want the whole name of one interface, such as `wlan0`")]
    Pattern(String),
    #[error(
        "cellular: the provider gives addresses, gateway, name servers and time; only `metric` can be said beside it"
    )]
    GivenByProvider,
    #[error("wifi: it has no password; a network without one is taken with `open = true`")]
    NoPassword,
    #[error("wifi: it has a password, and `open = true`")]
    OpenWithPassword,
    #[error("cellular: `user` and `password` belong together")]
    HalfAnAccount,
}

impl TryFrom<WifiFields> for Wifi {
    type Error = NetworkError;
    fn try_from(fields: WifiFields) -> Result<Self, NetworkError> {
        match (&fields.password, fields.open) {
            (None, false) => Err(NetworkError::NoPassword),
            (Some(_), true) => Err(NetworkError::OpenWithPassword),
            _ => Ok(Self {
                ssid: fields.ssid,
                password: fields.password,
                is_hidden: fields.hidden,
                country: fields.country,
            }),
        }
    }
}

impl TryFrom<CellularFields> for Cellular {
    type Error = NetworkError;
    fn try_from(fields: CellularFields) -> Result<Self, NetworkError> {
        let account = match (fields.user, fields.password) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            _ => return Err(NetworkError::HalfAnAccount),
        };
        Ok(Self {
            device: fields.device,
            apn: fields.apn,
            pin: fields.pin,
            account,
        })
    }
}

impl TryFrom<Fields> for Network {
    type Error = NetworkError;
    fn try_from(fields: Fields) -> Result<Self, NetworkError> {
        let medium = match (fields.wifi, fields.cellular) {
            (None, None) => Medium::Wire,
            (Some(wifi), None) => Medium::Wifi(wifi),
            (None, Some(cellular)) => Medium::Cellular(cellular),
            (Some(_), Some(_)) => return Err(NetworkError::TwoMedia),
        };
        let Interface(name) = &fields.interface;
        if name.ends_with('*') && !matches!(medium, Medium::Wire) {
            return Err(NetworkError::Pattern(name.clone()));
        }
        if matches!(medium, Medium::Cellular(_)) {
            let says = !fields.addresses.is_empty()
                || fields.gateway.is_some()
                || !fields.dns.is_empty()
                || !fields.ntp.is_empty();
            if says {
                return Err(NetworkError::GivenByProvider);
            }
        }
        Ok(Self {
            interface: fields.interface,
            addresses: fields.addresses,
            gateway: fields.gateway,
            dns: fields.dns,
            ntp: fields.ntp,
            metric: fields.metric,
            medium,
        })
    }
}

/// A file for another program: its name and text.
pub(crate) type Written = (String, String);

impl Network {
    /// The modem's line: one for each.
    pub(super) fn device(&self) -> Option<&str> {
        match &self.medium {
            Medium::Cellular(cellular) => Some(&cellular.device.0),
            _ => None,
        }
    }

    /// Whether it is of this interface.
    pub(super) fn covers(&self, interface: &str) -> bool {
        let Interface(name) = &self.interface;
        match name.strip_suffix('*') {
            Some(beginning) => interface.starts_with(beginning),
            None => name == interface,
        }
    }

    /// Whether it has a default route of its own: by DHCP, by the provider, or as the file says.
    pub(super) fn leads_out(&self) -> bool {
        self.addresses.is_empty() || self.gateway.is_some()
    }

    /// What is probably not as it was meant.
    pub(super) fn doubts(&self) -> Vec<String> {
        let Interface(name) = &self.interface;
        let mut doubts = Vec::new();
        if self.metric.is_some_and(|metric| metric < LEAST_METRIC) {
            doubts.push(format!("network: `{name}` has a metric below {LEAST_METRIC}: it stays the way out of the machine, whatever the gateway chooses among `wans`"));
        }
        if let Some(gateway) = self.gateway
            && !self.addresses.is_empty()
            && !self.addresses.iter().any(|subnet| subnet.holds(gateway))
        {
            doubts.push(format!("network: `{name}` has a `gateway` outside the networks of its `addresses`: it cannot be reached"));
        }
        match &self.medium {
            Medium::Wire if name.starts_with("wl") => {
                doubts.push(format!(
                    "network: `{name}` looks like Wi-Fi, and has no `wifi`: it joins no network"
                ));
            }
            Medium::Wifi(wifi) if wifi.password.is_none() => {
                doubts.push(format!(
                    "network: `{name}` joins an open network: who is near can read and change what is sent without TLS"
                ));
            }
            _ => {}
        }
        if let Medium::Wifi(Wifi { country: None, .. }) = &self.medium {
            doubts.push(format!(
                "network: `{name}` has no country: only channels that are allowed everywhere are used"
            ));
        }
        doubts
    }

    /// As systemd-networkd reads it: systemd.network(5). Modems are pppd's alone.
    pub(super) fn networkd(&self) -> Option<String> {
        if matches!(self.medium, Medium::Cellular(_)) {
            return None;
        }
        let mut text = format!(
            "# Of the provisioning file.\n[Match]\nName={}\n\n[Network]\nLLMNR=no\nMulticastDNS=no\nLLDP=no\n",
            self.interface.0
        );
        let mut line = |key: &str, value: &str| text += &format!("{key}={value}\n");
        for Subnet(address) in &self.addresses {
            line("Address", address);
        }
        if self.addresses.is_empty() {
            line("DHCP", "yes");
        }
        for server in &self.dns {
            line("DNS", &server.to_string());
        }
        for Host(server) in &self.ntp {
            line("NTP", server);
        }
        if let Some(gateway) = self.gateway {
            let metric = self.metric.unwrap_or(GATEWAY_METRIC);
            text += &format!("\n[Route]\nGateway={gateway}\nMetric={metric}\n");
        }
        let route = self
            .metric
            .map_or_else(String::new, |metric| format!("RouteMetric={metric}\n"));
        // The root file system has no machine id of its own.
        text += &format!(
            "\n[DHCPv4]\nClientIdentifier=mac\n{route}\n[DHCPv6]\nDUIDType=link-layer\n\n[IPv6AcceptRA]\n{route}"
        );
        Some(text)
    }

    /// What its medium wants beside that. `number` is that of the provisioning file.
    pub(super) fn link(&self, number: u64) -> Vec<Written> {
        let file = |kind: &str, text: String| (format!("{}.{kind}", self.interface.0), text);
        match &self.medium {
            Medium::Wire => Vec::new(),
            Medium::Wifi(wifi) => vec![file("wifi", wifi.supplicant())],
            Medium::Cellular(cellular) => {
                let metric = self.metric.unwrap_or(CELLULAR_METRIC);
                let mut files = vec![
                    file("ppp", cellular.options(&self.interface, metric)),
                    file("dial", cellular.dial()),
                ];
                files.extend(cellular.pin.as_ref().map(|pin| file("pin", pin.chat(number))));
                files
            }
        }
    }
}

impl Wifi {
    /// As wpa_supplicant reads it: wpa_supplicant.conf(5). There is no control interface.
    fn supplicant(&self) -> String {
        let mut text = "# Of the provisioning file.\n".to_owned();
        if let Some(Country(country)) = &self.country {
            text += &format!("country={country}\n");
        }
        let ssid: String = self.ssid.0.bytes().map(|b| format!("{b:02x}")).collect();
        text += &format!("network={{\nssid={ssid}\n");
        if self.is_hidden {
            text += "scan_ssid=1\n";
        }
        text += &match &self.password {
            None => "key_mgmt=NONE\n".to_owned(),
            // WPA3 needs the password itself.
            Some(WifiPassword(key)) if is_key(key) => {
                format!("key_mgmt=WPA-PSK WPA-PSK-SHA256\nieee80211w=1\npsk={key}\n")
            }
            // The value goes to the last quotation mark of the line: others within are a part of it.
            Some(WifiPassword(password)) => {
                format!("key_mgmt=WPA-PSK WPA-PSK-SHA256 SAE\nieee80211w=1\npsk=\"{password}\"\n")
            }
        };
        text + "}\n"
    }
}

impl Cellular {
    /// As pppd reads it: pppd(8). The metric is for the script that it runs when there is a connection, `cellular-up`. What is the same for all is in firmware-image/root/usr/share/headgate/pppd.options.
    fn options(&self, interface: &Interface, metric: u32) -> String {
        let mut text = format!(
            "# Of the provisioning file.\n{}\n115200\nifname {}\nipparam {metric}\n",
            self.device.0, interface.0
        );
        if let Some((Account(user), AccountPassword(password))) = &self.account {
            text += &format!("user \"{user}\"\npassword \"{password}\"\n");
        }
        text
    }

    /// As chat reads it: chat(8).
    fn dial(&self) -> String {
        format!(
            "# Of the provisioning file.\nABORT BUSY ABORT ERROR ABORT 'NO CARRIER' ABORT 'NO DIALTONE' ABORT 'NO ANSWER'\nTIMEOUT 20\n\
             '' 'AT+CGDCONT=1,\"IP\",\"{}\"'\nOK 'ATD*99#'\nTIMEOUT 60\nCONNECT '\\d\\c'\n",
            self.apn.0
        )
    }
}

impl Pin {
    /// As chat reads it. The number makes it another text in each provisioning file: a PIN that was refused is entered again when there is a new one.
    fn chat(&self, number: u64) -> String {
        format!(
            "# Of provisioning file {number}.\nABORT ERROR\nTIMEOUT 30\n'' '\\qAT+CPIN=\"{}\"'\nOK\n",
            self.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::Document;

    fn told(lines: &str) -> String {
        let error = Document::parse(&format!("number = 1\n[[network]]\n{lines}\n")).unwrap_err();
        error.to_string()
    }

    fn document(lines: &str) -> Document {
        Document::parse(&format!("number = 7\n[[network]]\n{lines}\n")).unwrap()
    }

    /// The text of a file of this name.
    fn link(lines: &str, name: &str) -> String {
        let files = document(lines).link_files();
        let found = files.into_iter().find(|(is, _)| is == name);
        found.unwrap_or_else(|| panic!("no {name}")).1
    }

    const WLAN: &str = "interface = \"wlan0\"\n";
    const WWAN: &str = "interface = \"wwan0\"\n";

    #[test]
    fn a_network_says_one_thing_by_line_and_nothing_that_was_not_meant() {
        let text = "number = 1\n[[network]]\ninterface = \"eth0\"\naddresses = [\"192.0.2.7/24\"]\ngateway = \"192.0.2.1\"\n\
            dns = [\"192.0.2.2\"]\nntp = [\"ntp.plant\"]\nmetric = 10\n[[network]]\ninterface = \"en*\"\nmetric = 20\n";
        let files = Document::parse(text).unwrap().network_files();
        assert_eq!(files.len(), 2);
        assert_eq!(files[0].0, "10-headgate-000.network");
        for line in [
            "Name=eth0",
            "Address=192.0.2.7/24",
            "Gateway=192.0.2.1",
            "DNS=192.0.2.2",
            "NTP=ntp.plant",
        ] {
            assert!(files[0].1.lines().any(|there| there == line), "{line}");
        }
        assert!(!files[0].1.contains("DHCP=yes") && files[1].1.contains("DHCP=yes"));
        assert!(
            files[0].1.contains("[Route]\nGateway=192.0.2.1\nMetric=10\n")
                && files[1].1.contains("RouteMetric=20\n")
        );
        let interface = |line: &str| Document::parse(&format!("number = 1\n[[network]]\n{line}\n")).is_ok();
        let good = [
            ("fe80::1/64", true),
            ("192.0.2.7/0", true),
            ("192.0.2.7", false),
            ("192.0.2.7/33", false),
            ("192.0.2.7/+24", false),
            ("192.0.2.7/024", false),
            ("192.0.2.7/", false),
            ("x/24", false),
            ("192.0.2.7/24\\nDHCP=yes", false),
        ];
        for (address, is_good) in good {
            let line = format!("interface = \"eth0\"\naddresses = [\"{address}\"]");
            assert_eq!(interface(&line), is_good, "{address}");
        }
        for name in ["eth0", "en*", "eth0.100", "wan_1"] {
            assert!(interface(&format!("interface = \"{name}\"")), "{name}");
        }
        for name in [
            "",
            "*",
            "-",
            ".",
            "..",
            "e*0",
            "en**",
            "!eth0",
            "sixteen-letters-",
        ] {
            assert!(!interface(&format!("interface = \"{name}\"")), "{name}");
        }
        for host in ["ntp.plant", "pool-7", "192.0.2.2", "2001:db8::1", "0.pool"] {
            assert!(
                interface(&format!("interface = \"e\"\nntp = [\"{host}\"]")),
                "{host}"
            );
        }
        for host in [
            "",
            ".",
            "...",
            "-",
            "a-.b",
            "-a",
            "a..b",
            "a:b",
            "192.0.2.256",
            "7",
        ] {
            assert!(
                !interface(&format!("interface = \"e\"\nntp = [\"{host}\"]")),
                "{host}"
            );
        }
    }

    #[test]
    fn wifi_is_written_for_wpa_supplicant_and_its_address_for_networkd() {
        let text = format!(
            "{WLAN}metric = 20\nwifi = {{ ssid = \"Plant 7\", password = \"correct horse\", country = \"DE\", hidden = true }}"
        );
        assert_eq!(
            link(&text, "wlan0.wifi"),
            "# Of the provisioning file.\ncountry=DE\nnetwork={\nssid=506c616e742037\nscan_ssid=1\n\
             key_mgmt=WPA-PSK WPA-PSK-SHA256 SAE\nieee80211w=1\npsk=\"correct horse\"\n}\n"
        );
        let (name, networkd) = &document(&text).network_files()[0];
        assert_eq!(name, "10-headgate-000.network");
        assert!(
            networkd.contains("Name=wlan0\n")
                && networkd.contains("DHCP=yes\n")
                && networkd.contains("RouteMetric=20\n")
        );
        assert!(!networkd.contains("correct horse"));

        let key = "0123456789abcdef".repeat(4);
        let text = link(
            &format!("{WLAN}wifi = {{ ssid = \"p\", password = \"{key}\" }}"),
            "wlan0.wifi",
        );
        assert!(
            text.contains(&format!("psk={key}\n")) && !text.contains("SAE"),
            "{text}"
        );
        let text = link(
            &format!("{WLAN}wifi = {{ ssid = \"p\", open = true }}"),
            "wlan0.wifi",
        );
        assert_eq!(
            text,
            "# Of the provisioning file.\nnetwork={\nssid=70\nkey_mgmt=NONE\n}\n"
        );
    }

    #[test]
    fn nothing_of_wifi_becomes_a_line_of_its_own() {
        let quotes = link(
            &format!("{WLAN}wifi = {{ ssid = 'a\"b', password = 'a\" # b\"c' }}"),
            "wlan0.wifi",
        );
        assert!(
            quotes.contains("ssid=612262\n") && quotes.contains("psk=\"a\" # b\"c\"\n"),
            "{quotes}"
        );
        for (wifi, why) in [
            ("ssid = \"\"", "the name of a Wi-Fi network"),
            ("ssid = \"a\\nb\"", "the name of a Wi-Fi network"),
            (
                "ssid = \"33 bytes, which are one too many.\"",
                "the name of a Wi-Fi network",
            ),
            ("ssid = \"p\"", "open = true"),
            (
                "ssid = \"p\", password = \"SECRET password\", open = true",
                "open = true",
            ),
            ("ssid = \"p\", password = \"SECRET\"", "8 to 63"),
            ("ssid = \"p\", password = \"SECRET\\npsk=x\"", "8 to 63"),
            ("ssid = \"p\", password = \"SECRET pässword\"", "8 to 63"),
            ("ssid = \"p\", password = 12345678", "8 to 63"),
            (
                "ssid = \"p\", password = \"SECRET12\", country = \"de\"",
                "ISO 3166",
            ),
            ("ssid = \"p\", password = \"SECRET12\", psk = \"x\"", "psk"),
        ] {
            let told = told(&format!("{WLAN}wifi = {{ {wifi} }}"));
            assert!(
                told.starts_with("line 4: ") && told.contains(why),
                "{wifi}: {told}"
            );
            assert!(
                !told.contains("SECRET") && !told.contains("12345678"),
                "{wifi}: {told}"
            );
        }
    }

    #[test]
    fn a_modem_is_written_for_pppd_and_chat_and_not_for_networkd() {
        let text = format!(
            "{WWAN}metric = 700\ncellular = {{ device = \"/dev/ttyUSB2\", apn = \"iot.plant\", pin = \"1234\", user = \"u@plant\", password = \"p!1\" }}"
        );
        assert!(document(&text).network_files().is_empty());
        assert_eq!(
            link(&text, "wwan0.ppp"),
            "# Of the provisioning file.\n/dev/ttyUSB2\n115200\nifname wwan0\nipparam 700\nuser \"u@plant\"\npassword \"p!1\"\n"
        );
        assert_eq!(
            link(&text, "wwan0.dial"),
            "# Of the provisioning file.\nABORT BUSY ABORT ERROR ABORT 'NO CARRIER' ABORT 'NO DIALTONE' ABORT 'NO ANSWER'\nTIMEOUT 20\n\
             '' 'AT+CGDCONT=1,\"IP\",\"iot.plant\"'\nOK 'ATD*99#'\nTIMEOUT 60\nCONNECT '\\d\\c'\n"
        );
        assert_eq!(
            link(&text, "wwan0.pin"),
            "# Of provisioning file 7.\nABORT ERROR\nTIMEOUT 30\n'' '\\qAT+CPIN=\"1234\"'\nOK\n"
        );

        let plain = format!(
            "{WWAN}cellular = {{ device = \"/dev/serial/by-id/usb-Maker_LTE-if02\", apn = \"internet\" }}"
        );
        let files = document(&plain).link_files();
        assert_eq!(files.len(), 2, "no PIN");
        assert!(files[0].1.ends_with("ipparam 4096\n"));
    }

    #[test]
    fn nothing_of_a_modem_becomes_another_word() {
        let good = "device = \"/dev/ttyUSB2\", apn = \"internet\"";
        for (cellular, why) in [
            (
                "device = \"/etc/passwd\", apn = \"a\"".to_owned(),
                "a serial line",
            ),
            ("device = \"/dev/../x\", apn = \"a\"".to_owned(), "a serial line"),
            ("device = \"/dev/tty x\", apn = \"a\"".to_owned(), "a serial line"),
            (
                "device = \"/dev/ttyS0\\npty x\", apn = \"a\"".to_owned(),
                "a serial line",
            ),
            (
                "device = \"/dev/ttyS0\", apn = \"a'b\"".to_owned(),
                "an access point name",
            ),
            (
                "device = \"/dev/ttyS0\", apn = 'a\"b'".to_owned(),
                "an access point name",
            ),
            (
                "device = \"/dev/ttyS0\", apn = \"\"".to_owned(),
                "an access point name",
            ),
            (format!("{good}, pin = \"90817\\n\""), "a PIN"),
            (format!("{good}, pin = \"123\""), "a PIN"),
            (format!("{good}, pin = 90817"), "a PIN"),
            (format!("{good}, user = \"a\""), "belong together"),
            (format!("{good}, password = \"SECRET\""), "belong together"),
            (
                format!("{good}, user = \"a b\", password = \"SECRET\""),
                "a user name",
            ),
            (
                format!("{good}, user = \"a\", password = \"SECRET\\\"\""),
                "a password",
            ),
            (
                format!("{good}, user = \"a\", password = \"SECRET\\n\""),
                "a password",
            ),
            (
                format!("{good}, user = \"a\", password = \"$(SECRET)\""),
                "a password",
            ),
        ] {
            let told = told(&format!("{WWAN}cellular = {{ {cellular} }}"));
            assert!(
                told.starts_with("line 4: ") && told.contains(why),
                "{cellular}: {told}"
            );
            assert!(
                !told.contains("SECRET") && !told.contains("90817"),
                "{cellular}: {told}"
            );
        }
    }

    #[test]
    fn what_cannot_be_together_is_refused_and_what_was_hardly_meant_is_doubted() {
        let wifi = "wifi = { ssid = \"p\", password = \"SECRET12\", country = \"DE\" }";
        let cellular = "cellular = { device = \"/dev/ttyUSB2\", apn = \"internet\" }";
        for (lines, why) in [
            (format!("{WWAN}{wifi}\n{cellular}"), "an interface is one of them"),
            (format!("interface = \"wl*\"\n{wifi}"), "the whole name"),
            (format!("interface = \"ww*\"\n{cellular}"), "the whole name"),
            (
                format!("{WWAN}addresses = [\"192.0.2.7/24\"]\n{cellular}"),
                "the provider gives",
            ),
        ] {
            let told = told(&lines);
            assert!(told.starts_with("line 2: ") && told.contains(why), "{told}");
        }
        let twice = told(&format!(
            "{WWAN}{cellular}\n[[network]]\ninterface = \"wwan1\"\n{cellular}"
        ));
        assert_eq!(twice, "line 5: cellular: `/dev/ttyUSB2` is there twice");

        assert!(document(&format!("{WLAN}{wifi}")).doubts().is_empty());
        for (lines, why) in [
            (
                format!("{WLAN}wifi = {{ ssid = \"p\", password = \"SECRET12\" }}"),
                "no country",
            ),
            (
                format!("{WLAN}wifi = {{ ssid = \"p\", open = true, country = \"DE\" }}"),
                "open network",
            ),
            (WLAN.to_owned(), "joins no network"),
            (
                "interface = \"eth0\"\naddresses = [\"192.0.2.7/24\"]\ngateway = \"198.51.100.1\"".to_owned(),
                "cannot be reached",
            ),
            (
                "interface = \"eth0\"\naddresses = [\"2001:db8::7/64\"]\ngateway = \"2001:db8:0:1::1\""
                    .to_owned(),
                "cannot be reached",
            ),
            (
                "interface = \"eth0\"\nmetric = 1".to_owned(),
                "whatever the gateway chooses",
            ),
        ] {
            let doubts = document(&lines).doubts();
            assert!(doubts.len() == 1 && doubts[0].contains(why), "{doubts:?}");
        }
        for lines in [
            "addresses = [\"192.0.2.7/24\"]\ngateway = \"192.0.2.254\"",
            "addresses = [\"192.0.2.7/0\"]\ngateway = \"198.51.100.1\"",
            "addresses = [\"2001:db8::7/64\", \"192.0.2.7/24\"]\ngateway = \"fe80::1\"",
            "gateway = \"198.51.100.1\"",
        ] {
            let doubts = document(&format!("interface = \"eth0\"\n{lines}")).doubts();
            assert!(doubts.is_empty(), "{doubts:?}");
        }
    }

    #[test]
    fn what_is_secret_is_not_told() {
        let text = format!(
            "{WWAN}cellular = {{ device = \"/dev/ttyUSB2\", apn = \"internet\", pin = \"90817\", user = \"u\", password = \"SECRET\" }}\n\
             [[network]]\n{WLAN}wifi = {{ ssid = \"p\", password = \"SECRET12\" }}"
        );
        let shown = format!("{:?}", document(&text));
        assert!(
            !shown.contains("SECRET") && !shown.contains("90817") && shown.contains("internet"),
            "{shown}"
        );
    }
}
