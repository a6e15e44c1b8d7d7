//! Names of TLS: OpenSSL's, and those of the registry.

/// Cipher suites of TLS 1.3, which have one name. RFC 8446 §B.4
const NEW_SUITES: [&str; 3] = [
    "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
];

/// Cipher suites of TLS 1.2: OpenSSL's name and that of the registry. RFC 5289, RFC 7905
const OLD_SUITES: [(&str, &str); 6] = [
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
];

/// Suites of a list by names of the registry, in its order, and those that are not built in.
pub(crate) fn suites(list: &str) -> (Vec<String>, Vec<String>) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for name in list.split([':', ',', ' ']).filter(|name| !name.is_empty()) {
        let old = OLD_SUITES
            .iter()
            .find(|(openssl, iana)| *openssl == name || *iana == name);
        let new = NEW_SUITES.iter().find(|suite| **suite == name);
        match old.map(|(_, iana)| *iana).or(new.copied()) {
            Some(suite) => known.push(suite.to_owned()),
            None => unknown.push(name.to_owned()),
        }
    }
    (known, unknown)
}

/// The suites that a listener offers when one list is of TLS 1.2 alone and another, or none, of TLS 1.3.
pub(crate) fn both_versions(old: Option<Vec<String>>, new: Option<Vec<String>>) -> Vec<String> {
    let new = new.unwrap_or_else(|| NEW_SUITES.map(str::to_owned).into());
    let all_old = || OLD_SUITES.map(|(_, iana)| iana.to_owned()).into();
    new.into_iter().chain(old.unwrap_or_else(all_old)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_have_the_names_of_the_registry_and_unknown_ones_are_told() {
        let (known, unknown) =
            suites("ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-SHA:!aNULL:TLS_AES_128_GCM_SHA256");
        assert_eq!(
            known,
            ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"]
        );
        assert_eq!(unknown, ["DHE-RSA-AES256-SHA", "!aNULL"]);
        let one = vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()];
        assert_eq!(both_versions(Some(one), None).len(), 4);
        assert_eq!(
            both_versions(None, Some(vec!["TLS_AES_128_GCM_SHA256".to_owned()])).len(),
            7
        );
    }
}
