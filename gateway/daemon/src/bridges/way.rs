//! How the addresses of a bridge are reached.

use headgate_bridge::{BridgeSettings, BridgeTls};
use headgate_dial::{Bind, ClientFile, ClientTls, Dial, Proxy, RemoteAddress, Target};
use headgate_model::Fault;

fn client_tls(tls: &BridgeTls) -> ClientTls {
    ClientTls {
        cafile: tls.ca.clone(),
        cert: tls.certificate.clone(),
        key: tls.key.clone(),
        insecure: tls.insecure,
        alpn: tls.alpn.clone(),
        server_name: tls.server_name.clone(),
    }
}

/// How each address is reached: `mqtt`, `mqtts`, `ws`, `wss` or `unix`. The error names the key.
pub(super) fn dials(settings: &BridgeSettings) -> Result<Vec<Dial>, Fault> {
    if settings.addresses.is_empty() {
        return Err(Fault::new("addresses", "at least one is wanted"));
    }
    settings.login.check().map_err(|error| error.fault())?;
    let proxy = (!settings.proxy.is_empty()).then(|| settings.proxy.reveal());
    let bind = settings.bind.as_deref();
    settings
        .addresses
        .iter()
        .map(|address| dial(address, &settings.tls, proxy, bind))
        .collect()
}

/// All that is wrong with the addresses and with how they are reached. A bridge may have none of its own if its preset names the remote.
pub(crate) fn address_faults(settings: &BridgeSettings) -> Vec<Fault> {
    let own = settings.addresses.len();
    let settings = settings.clone().with_preset();
    if settings.addresses.is_empty() {
        return vec![Fault::new("addresses", "at least one is wanted")];
    }
    let proxy = (!settings.proxy.is_empty()).then(|| settings.proxy.reveal());
    let mut faults: Vec<Fault> = Vec::new();
    for (n, address) in settings.addresses.iter().enumerate() {
        let Err(mut fault) = dial(address, &settings.tls, proxy, settings.bind.as_deref()) else {
            continue;
        };
        if fault.key == "addresses" && n < own {
            fault = fault.of_entry(n);
        }
        // What concerns all addresses is told once.
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    faults
}

/// What is wrong with the files for TLS as they are now. They are read for every connection.
pub(crate) fn tls_faults(settings: &BridgeSettings) -> Vec<Fault> {
    let settings = settings.clone().with_preset();
    let is_tls = |address: &String| address.parse::<Target>().is_ok_and(|target| target.tls);
    if !settings.addresses.iter().any(is_tls) {
        return Vec::new();
    }
    let tls = client_tls(&settings.tls);
    tls.faults()
        .into_iter()
        .map(|(file, error)| {
            let key = match file {
                ClientFile::Authorities => "tls.ca",
                ClientFile::Certificate => "tls.certificate",
                ClientFile::Key => "tls.key",
            };
            let what = format!("{error}; until it is right, every connection fails");
            Fault::new(key, what)
        })
        .collect()
}

/// How a service is reached that names the remote: by the same proxy and from the same place, but under its own name.
pub(super) fn service_dial(settings: &BridgeSettings, address: &str) -> Result<Dial, Fault> {
    let tls = BridgeTls {
        server_name: None,
        ..settings.tls.clone()
    };
    let proxy = (!settings.proxy.is_empty()).then(|| settings.proxy.reveal());
    let named = dial(address, &tls, proxy, settings.bind.as_deref());
    named.map_err(|fault| Fault::new("preset.endpoint", fault.message))
}

/// The same without what comes after the network.
pub(super) fn bare(dial: Dial) -> Dial {
    Dial {
        target: Target {
            tls: false,
            websocket: None,
            ..dial.target
        },
        ..dial
    }
}

fn dial(address: &str, tls: &BridgeTls, proxy: Option<&str>, bind: Option<&str>) -> Result<Dial, Fault> {
    let unfit = |what: String| Fault::new("addresses", what);
    let target = address.parse::<Target>();
    // Before `@` there is a password.
    let place = address.rsplit('@').next().unwrap_or_default();
    let target = target.map_err(|error| unfit(format!("`{place}`: {error}")))?;
    if target.username.is_some() {
        return Err(unfit(format!(
            "`{}`: user name and password belong into `login`",
            target.place
        )));
    }
    if tls.certificate.is_some() != tls.key.is_some() {
        return Err(Fault::new("tls", "certificate and key belong together"));
    }
    if !target.tls && *tls != BridgeTls::default() {
        return Err(unfit(format!(
            "`{address}`: tls is set, but this is not mqtts nor wss"
        )));
    }
    let proxy = proxy.map(str::parse::<Proxy>).transpose();
    let proxy = proxy.map_err(|error| Fault::new("proxy", error.to_string()))?;
    if proxy.is_some() && matches!(target.place, RemoteAddress::Unix(_)) {
        return Err(unfit(format!("`{address}`: a proxy cannot reach a Unix socket")));
    }
    Ok(Dial {
        target,
        tls: client_tls(tls),
        proxy,
        bind: bind.map(Bind::from),
        way_out: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_refused_in_words() {
        let plain = BridgeTls::default();
        let secured = BridgeTls {
            alpn: vec!["mqtt".into()],
            ..BridgeTls::default()
        };
        let half = BridgeTls {
            certificate: Some("a".into()),
            ..BridgeTls::default()
        };
        for (address, tls, proxy, word) in [
            ("broker", &plain, None, "scheme"),
            ("mqtt://ann:secret@broker", &plain, None, "`login`"),
            ("mqtt://broker", &secured, None, "mqtts"),
            ("mqtts://broker", &half, None, "belong together"),
            ("mqtts://broker", &plain, Some("ftp://x"), "socks5"),
            ("unix:/run/x", &plain, Some("http://x"), "Unix"),
        ] {
            let error = dial(address, tls, proxy, None).err().unwrap().to_string();
            assert!(error.contains(word), "{address}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(dial("wss://broker/mqtt", &secured, Some("http://x"), Some("eth0")).is_ok());
    }
}
