//! Pages of browsers, and which of them may speak here.

use std::net::IpAddr;

/// Whether a page of another machine speaks to this one by a name that is this machine's alone: a browser here has loaded it from somewhere, and who runs a
/// browser on the gateway has not let all the world in. These are fields of the request: `Host`, `Origin` (RFC 6454 §7), and `Sec-Fetch-Site`, by which newer
/// browsers say it themselves, also where the origin is not told.
pub(crate) fn is_from_elsewhere(host: Option<&str>, origin: Option<&str>, site: Option<&str>) -> bool {
    let page = || {
        let origin = origin?;
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        Some(authority.is_some_and(is_here))
    };
    let is_elsewhere = match site {
        Some(site) => site.eq_ignore_ascii_case("cross-site"),
        // Without an origin it is no browser.
        None => page() == Some(false),
    };
    is_elsewhere && host.is_some_and(is_here)
}

/// `localhost:8083`, `127.0.0.1`, `[::1]:8083`
fn is_here(authority: &str) -> bool {
    let name = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    match name.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_from_elsewhere;

    #[test]
    fn a_page_of_the_world_does_not_speak_to_this_machine_as_if_it_were_here() {
        let elsewhere = |host, origin| is_from_elsewhere(Some(host), Some(origin), None);
        for host in [
            "localhost:8083",
            "127.0.0.1:8083",
            "[::1]:8083",
            "LOCALHOST.",
            "gate.localhost",
        ] {
            assert!(elsewhere(host, "https://evil.example"), "{host}");
            assert!(elsewhere(host, "https://localhost.evil.example"), "{host}");
            assert!(elsewhere(host, "null"), "{host}");
            assert!(!elsewhere(host, "http://127.0.0.1:18083"), "{host}");
            assert!(!elsewhere(host, "http://localhost"), "{host}");
        }
        // By another name it is for whoever may come in there.
        assert!(!elsewhere("gate.plant:8083", "https://dashboard.plant"));
        assert!(
            !is_from_elsewhere(Some("localhost"), None, None),
            "it is no browser"
        );
        // A form of a page tells no origin, or a script of it.
        assert!(!is_from_elsewhere(
            Some("localhost"),
            Some("null"),
            Some("same-site")
        ));
        assert!(is_from_elsewhere(
            Some("localhost"),
            Some("null"),
            Some("cross-site")
        ));
        assert!(is_from_elsewhere(Some("localhost"), None, Some("cross-site")));
    }
}
