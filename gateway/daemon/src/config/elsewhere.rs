//! The configuration as it is with files elsewhere: what is unpacked of a backup is looked at before it has its place.

use super::Config;
use crate::protocols;
use std::path::{Path, PathBuf};

impl Config {
    /// The same with each file that a start reads where `place` says, if it says something.
    pub(crate) fn with_files(&self, place: &dyn Fn(&Path) -> Option<PathBuf>) -> Self {
        let mut config = self.clone();
        let mut files: Vec<&mut PathBuf> = Vec::new();
        files.extend(&mut config.auth.users_file);
        let rules = config.auth.listeners.iter_mut();
        let rules = rules.filter_map(|listener| listener.acl_file.as_mut());
        files.extend(rules.chain(&mut config.auth.acl_file).map(|file| &mut file.path));
        for tls in config
            .listeners
            .iter_mut()
            .filter_map(|listener| listener.tls.as_mut())
        {
            files.extend([&mut tls.certificate, &mut tls.key]);
            files.extend(tls.ocsp_response.iter_mut().chain(&mut tls.client_ca));
            files.extend(&mut tls.crl);
            for host in &mut tls.sni {
                files.extend([&mut host.certificate, &mut host.key]);
                files.extend(&mut host.ocsp_response);
            }
        }
        files.into_iter().for_each(|file| put(file, place));
        for dtls in protocols::dtls_of(&mut config) {
            let named = [
                &mut dtls.psk_file,
                &mut dtls.certificate,
                &mut dtls.key,
                &mut dtls.client_ca,
            ];
            let named = named.into_iter().flatten();
            named.chain(&mut dtls.crl).for_each(|file| put(file, place));
        }
        config
    }
}

fn put(file: &mut PathBuf, place: &dyn Fn(&Path) -> Option<PathBuf>) {
    if let Some(elsewhere) = place(file) {
        *file = elsewhere;
    }
}
