//! Certificates that the gateway keeps in its data folder: keys made on the device, requests for certificates, and what a CA made of them.
//!
//! Always true: a private key leaves the device in no answer; a certificate that does not belong to its key takes no place.

use crate::private;
use crate::sys::datetime;
use headgate_auth::data_dir::{DataDir, Here};
use headgate_shell::tls::{CertificateView, check_certificate, view_certificate};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The folder.
const FOLDER: &str = "certificates";
/// Pairs that are kept.
const MOST: usize = 256;
/// By which the local CA is kept.
pub(crate) const CA: &str = "ca";
/// How long the local CA's own certificate is good.
const CA_DAYS: u64 = 3_650;
/// Clocks of devices may be behind: a certificate is good from so many days ago.
const DAYS_BEFORE: u64 = 1;

/// Why something is not done with a certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// A name that would be no file of ours.
    #[error("a name has 1 to 64 letters, digits, `-` and `_`")]
    Name,
    /// There is none of this name.
    #[error("there is no certificate and no key `{0}`")]
    Unknown(String),
    /// It has a key.
    #[error("`{0}` has a key already: delete it, or take another name")]
    HasKey(String),
    /// Something of the request is wrong.
    #[error("the request cannot be made: {0}")]
    Request(#[from] rcgen::Error),
    /// Certificate and key do not belong together, or are none.
    #[error("{0}")]
    Wrong(String),
    /// There is no local CA.
    #[error("there is no local CA yet: make one first")]
    NoCa,
    /// A time that no certificate has.
    #[error("a certificate is good for 1 to 3,650 days")]
    Days,
    /// So many are enough.
    #[error("there are {MOST} already: delete some")]
    TooMany,
    /// A file cannot be read or written.
    #[error("{path}: {cause}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
}

/// The certificates of one data folder, which stays where it is as long as this is held.
pub(crate) struct Certificates<'d> {
    folder: PathBuf,
    _here: Here<'d>,
}

/// A key, a certificate, or both.
pub(crate) struct Pair {
    pub name: String,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// What the certificate says, if there is one.
    pub view: Option<CertificateView>,
    /// What is wrong.
    pub fault: Option<String>,
}

/// What a certificate is to be for.
pub(crate) struct Wanted<'a> {
    /// Common name.
    pub common_name: &'a str,
    /// Host names and addresses.
    pub names: Vec<String>,
}

/// How the file of a request ends.
const REQUEST: &str = "csr";

impl<'d> Certificates<'d> {
    pub(crate) fn of(data_dir: &'d DataDir) -> Self {
        let here = data_dir.now();
        // What goes into settings leads there from any folder.
        let folder = here.join(FOLDER);
        Self {
            folder: std::path::absolute(&folder).unwrap_or(folder),
            _here: here,
        }
    }

    fn paths(&self, name: &str) -> Result<(PathBuf, PathBuf), CertificateError> {
        let is_fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        match (1..=64).contains(&name.len()) && name.chars().all(is_fine) {
            true => Ok((
                self.folder.join(format!("{name}.pem")),
                self.folder.join(format!("{name}.key")),
            )),
            false => Err(CertificateError::Name),
        }
    }

    /// All, by name.
    pub(crate) fn list(&self) -> Vec<Pair> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| {
                let path = entry.path();
                let ours = path.extension().is_some_and(|end| end == "pem" || end == "key");
                Some(path.file_stem()?.to_str()?.to_owned()).filter(|_| ours)
            })
            .collect();
        names.sort();
        names.dedup();
        names
            .into_iter()
            .filter_map(|name| self.show(&name).ok())
            .collect()
    }

    /// One of them.
    pub(crate) fn show(&self, name: &str) -> Result<Pair, CertificateError> {
        let (certificate, key) = self.paths(name)?;
        if !certificate.exists() && !key.exists() {
            return Err(CertificateError::Unknown(name.to_owned()));
        }
        let has_both = certificate.exists() && key.exists();
        let fault = match has_both {
            true => check_certificate(&certificate, &key)
                .err()
                .map(|error| error.to_string()),
            false if key.exists() => Some("waits for its certificate".to_owned()),
            false => Some("has no key here".to_owned()),
        };
        Ok(Pair {
            name: name.to_owned(),
            view: view_certificate(&certificate),
            certificate,
            key,
            fault,
        })
    }

    /// What of it is no secret, in PEM: the certificate with its chain, and the request for one.
    pub(crate) fn texts(&self, name: &str) -> Result<(Option<String>, Option<String>), CertificateError> {
        self.show(name)?;
        let (certificate, key) = self.paths(name)?;
        let text = |path: &Path| fs::read_to_string(path).ok();
        Ok((text(&certificate), text(&key.with_extension(REQUEST))))
    }

    /// Makes a key, and the request for a certificate in PEM. PKCS #10, RFC 2986
    pub(crate) fn request(&self, name: &str, wanted: Wanted<'_>) -> Result<String, CertificateError> {
        let (_, key_file) = self.paths(name)?;
        if key_file.exists() {
            return Err(CertificateError::HasKey(name.to_owned()));
        }
        if self.list().len() >= MOST {
            return Err(CertificateError::TooMany);
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(wanted.names)?;
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, wanted.common_name);
        let request = params.serialize_request(&key)?.pem()?;
        self.write(&key_file, key.serialize_pem().as_bytes())?;
        self.write(&key_file.with_extension(REQUEST), request.as_bytes())?;
        Ok(request)
    }

    /// Makes the local CA: who trusts it trusts what it signs. Its key stays here.
    pub(crate) fn make_ca(&self, common_name: &str, now: u64) -> Result<Pair, CertificateError> {
        let (certificate, key_file) = self.paths(CA)?;
        if certificate.exists() || key_file.exists() {
            return Err(CertificateError::HasKey(CA.to_owned()));
        }
        let key = KeyPair::generate()?;
        let mut params = params(common_name, Vec::new(), now, CA_DAYS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let signed = params.self_signed(&key)?;
        self.write(&key_file, key.serialize_pem().as_bytes())?;
        self.write(&certificate, signed.pem().as_bytes())?;
        self.show(CA)
    }

    /// Makes a key and has the local CA sign its certificate: for a server, that is the gateway, or for a client, that is a device. Gives the chain and the key, in PEM; nothing is
    /// kept.
    pub(crate) fn issue(
        &self,
        wanted: Wanted<'_>,
        is_server: bool,
        days: u64,
        now: u64,
    ) -> Result<(String, String), CertificateError> {
        let (certificate, key_file) = self.paths(CA)?;
        if !(1..=CA_DAYS).contains(&days) {
            return Err(CertificateError::Days);
        }
        let read = |path: &Path| fs::read_to_string(path).map_err(|_| CertificateError::NoCa);
        let (ca, ca_key) = (read(&certificate)?, KeyPair::from_pem(&read(&key_file)?)?);
        let issuer = Issuer::from_ca_cert_pem(&ca, ca_key)?;
        let key = KeyPair::generate()?;
        let mut params = params(wanted.common_name, wanted.names, now, days)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match is_server {
            true => ExtendedKeyUsagePurpose::ServerAuth,
            false => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        let signed = params.signed_by(&key, &issuer)?;
        Ok((format!("{}{ca}", signed.pem()), key.serialize_pem()))
    }

    /// Puts a certificate with its chain in its place, with a key, or for the key that is there.
    pub(crate) fn put(&self, name: &str, chain: &str, key: Option<&str>) -> Result<Pair, CertificateError> {
        let (certificate, key_file) = self.paths(name)?;
        if key.is_none() && !key_file.exists() {
            return Err(CertificateError::Wrong(format!(
                "`{name}` has no key here: give one, or have one made with a request"
            )));
        }
        if !certificate.exists() && !key_file.exists() && self.list().len() >= MOST {
            return Err(CertificateError::TooMany);
        }
        // One at a time: they have the same places beside.
        static ONE: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
        let _one = ONE.lock();
        // Beside first, so that what is served stays whole.
        let new = (
            certificate.with_extension("pem-new"),
            key_file.with_extension("key-new"),
        );
        let given = match key {
            Some(key) => key.as_bytes().to_vec(),
            None => fs::read(&key_file).map_err(|cause| CertificateError::File {
                path: key_file.clone(),
                cause,
            })?,
        };
        self.write(&new.0, chain.as_bytes())?;
        self.write(&new.1, &given)?;
        let checked = check_certificate(&new.0, &new.1).map_err(|error| {
            let said = error.to_string();
            let said = said.replace(&new.0.display().to_string(), "the certificate");
            CertificateError::Wrong(said.replace(&new.1.display().to_string(), "the key"))
        });
        let placed = checked.and_then(|()| {
            if key.is_some() {
                self.write(&key_file, &given)?;
            }
            self.write(&certificate, chain.as_bytes())
        });
        for path in [&new.0, &new.1] {
            let _ = fs::remove_file(path);
        }
        placed?;
        // What it asked for is here.
        let _ = fs::remove_file(key_file.with_extension(REQUEST));
        self.show(name)
    }

    /// Removes certificate and key.
    pub(crate) fn remove(&self, name: &str) -> Result<(), CertificateError> {
        self.show(name)?;
        let (certificate, key) = self.paths(name)?;
        let request = key.with_extension(REQUEST);
        for path in [certificate, request, key] {
            private::remove(&path).map_err(|cause| CertificateError::File { path, cause })?;
        }
        Ok(())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), CertificateError> {
        let written = fs::create_dir_all(&self.folder).and_then(|()| private::replace(path, bytes));
        written.map_err(|cause| CertificateError::File {
            path: path.to_owned(),
            cause,
        })
    }
}

/// What a certificate says, from yesterday on for so many days.
fn params(
    common_name: &str,
    names: Vec<String>,
    now: u64,
    days: u64,
) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let today = now / 86_400;
    let date = |days: u64| {
        let (year, month, day) = civil(days);
        date_time_ymd(year, month, day)
    };
    params.not_before = date(today.saturating_sub(DAYS_BEFORE));
    params.not_after = date(today + days + 1);
    Ok(params)
}

/// Year, month and day of so many days since 1970.
fn civil(days: u64) -> (i32, u8, u8) {
    let date = datetime(days.saturating_mul(86_400));
    let mut parts = date[..10].split('-');
    let mut part = || parts.next().unwrap_or_default();
    let (year, month, day) = (part(), part(), part());
    let small = |text: &str| text.parse().unwrap_or(1);
    (year.parse().unwrap_or(9_999), small(month), small(day))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::CertificateSigningRequestParams;

    fn wanted() -> Wanted<'static> {
        Wanted {
            common_name: "gate-1",
            names: vec!["gate-1.local".into(), "192.0.2.1".into()],
        }
    }

    /// What a CA makes of a request.
    fn signed(request: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, "a CA");
        let issuer = Issuer::new(ca.clone(), &key);
        let request = CertificateSigningRequestParams::from_pem(request).unwrap();
        let ours = request.signed_by(&issuer).unwrap();
        format!("{}{}", ours.pem(), ca.self_signed(&key).unwrap().pem())
    }

    #[test]
    fn a_key_is_made_here_and_its_certificate_comes_later() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().into();
        let certificates = Certificates::of(&dir);
        let request = certificates.request("gate", wanted()).unwrap();
        assert!(
            request.starts_with("-----BEGIN CERTIFICATE REQUEST-----"),
            "{request}"
        );
        let waiting = certificates.show("gate").unwrap();
        assert_eq!(waiting.fault.as_deref(), Some("waits for its certificate"));
        assert!(matches!(
            certificates.request("gate", wanted()),
            Err(CertificateError::HasKey(_))
        ));

        let chain = signed(&request);
        let pair = certificates.put("gate", &chain, None).unwrap();
        assert_eq!(pair.fault, None);
        let view = pair.view.unwrap();
        assert_eq!((&*view.subject, &*view.issuer), ("CN=gate-1", "CN=a CA"));
        assert_eq!(view.names, ["DNS:gate-1.local", "IP:192.0.2.1"]);
        assert_eq!(certificates.list().len(), 1);
        certificates.remove("gate").unwrap();
        assert!(matches!(
            certificates.remove("gate"),
            Err(CertificateError::Unknown(_))
        ));
    }

    #[test]
    fn days_have_dates() {
        let dates = [
            (0, (1970, 1, 1)),
            (11_016, (2000, 2, 29)),
            (20_787, (2026, 11, 30)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ];
        for (days, date) in dates {
            assert_eq!(civil(days), date);
        }
    }

    #[test]
    fn a_local_ca_signs_for_the_gateway_and_for_devices() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().into();
        let certificates = Certificates::of(&dir);
        let now = 20_787 * 86_400 + 5;
        assert!(matches!(
            certificates.issue(wanted(), true, 30, now),
            Err(CertificateError::NoCa)
        ));
        let ca = certificates.make_ca("plant 7", now).unwrap();
        assert_eq!(ca.view.unwrap().subject, "CN=plant 7");
        assert!(matches!(
            certificates.make_ca("again", now),
            Err(CertificateError::HasKey(_))
        ));
        assert!(matches!(
            certificates.issue(wanted(), true, 0, now),
            Err(CertificateError::Days)
        ));
        let (chain, key) = certificates.issue(wanted(), true, 30, now).unwrap();
        let pair = certificates.put("gate", &chain, Some(&key)).unwrap();
        assert_eq!(pair.fault, None);
        let view = pair.view.unwrap();
        assert_eq!((&*view.issuer, view.chain_fault), ("CN=plant 7", None));
        assert_eq!(
            (view.not_before, view.not_after),
            (20_786 * 86_400, 20_818 * 86_400)
        );
    }

    #[test]
    fn what_does_not_belong_together_takes_no_place() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().into();
        let certificates = Certificates::of(&dir);
        let request = certificates.request("gate", wanted()).unwrap();
        let chain = signed(&request);
        certificates.put("gate", &chain, None).unwrap();
        let other = KeyPair::generate().unwrap().serialize_pem();
        for (chain, key) in [(&*chain, Some(&*other)), ("rubbish", None), ("", Some("rubbish"))] {
            let error = certificates.put("gate", chain, key).err().unwrap().to_string();
            assert!(!error.contains(&folder.path().display().to_string()), "{error}");
        }
        assert_eq!(
            certificates.show("gate").unwrap().fault,
            None,
            "the old one stays"
        );
        assert!(matches!(
            certificates.put("new", &chain, None),
            Err(CertificateError::Wrong(_))
        ));
        for name in ["", "..", "a/b", "a.b", &"x".repeat(65)] {
            assert!(
                matches!(certificates.show(name), Err(CertificateError::Name)),
                "{name}"
            );
        }
        let left = fs::read_dir(folder.path().join(FOLDER)).unwrap().count();
        assert_eq!(left, 2);
    }
}
