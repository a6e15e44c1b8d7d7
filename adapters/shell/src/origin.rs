//! Pages of browsers, and which of them may speak here.

use std::net::IpAddr;

/// Whether a page of another machine speaks to this one by a name that is this machine's alone: a browser here has loaded it from somewhere, and who runs a
/// browser on the gateway has not let all the world in. `host`, `origin`: these fields of the request. RFC 6454 §7
pub(crate) fn is_from_elsewhere(host: Option<&str>, origin: Option<&str>) -> bool {
    let (Some(host), Some(origin)) = (host, origin) else {
        return false;
    };
    let page = origin.split_once("://").map(|(_, authority)| authority);
    is_here(host) && !page.is_some_and(is_here)
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
        let elsewhere = |host, origin| is_from_elsewhere(Some(host), Some(origin));
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
        assert!(!is_from_elsewhere(Some("localhost"), None), "it is no browser");
    }
}
