//! As whom a bridge comes: read anew for every connection, so that renewed passwords and tokens count without a restart.

use super::error::LoginError;
use crate::{private, programs};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use headgate_bridge::{Credentials, Jwt, JwtAlgorithm, Login, Sas};
use headgate_mqtt_codec::Version;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::process::Command;
use tokio::time::timeout;

/// How long a command may take that prints a password.
const COMMAND_TIME: Duration = Duration::from_secs(30);
/// The longest password. MQTT 5 §1.5.6
const LONGEST: usize = 65_535;
/// Bytes of a file that are read at all: what is too long by little is told by its length.
const MOST: u64 = 1 << 20;

/// User name and password, and how long they are good.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Read {
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<String>,
    /// When a connection that was opened with them should be opened again.
    pub renew_after: Option<Duration>,
}

impl Read {
    /// As MQTT carries them.
    pub(super) fn credentials(&self, version: Version) -> Result<Credentials, LoginError> {
        let password = self.password.clone().map(Bytes::from);
        Ok(Credentials::new(self.username.clone(), password, version)?)
    }
}

/// What counts now. `now` is the system's time.
pub(super) async fn read(login: &Login, now: SystemTime) -> Result<Read, LoginError> {
    let mut read = Read {
        username: login.username.clone(),
        password: (!login.password.is_empty()).then(|| login.password.reveal().to_owned()),
        renew_after: None,
    };
    if let Some(path) = &login.password_file {
        read.password = Some(read_file(path).await?);
    }
    if let [program, arguments @ ..] = &login.password_command[..] {
        read.password = Some(run(program, arguments).await?);
    }
    if let Some(sas) = &login.sas {
        let key = match &sas.key_file {
            Some(path) => read_file(path).await?,
            None => sas.key.reveal().to_owned(),
        };
        read.password = Some(sas_token(sas, &key, now)?);
        read.renew_after = Some(renewal(sas.lifetime));
    }
    if let Some(jwt) = &login.jwt {
        let key = read_file(&jwt.key).await?;
        read.password = Some(jwt_token(jwt, &key, now)?);
        read.renew_after = Some(renewal(jwt.lifetime));
    }
    Ok(read)
}

/// The password, if it is one of those that another program may have changed meanwhile.
pub(super) async fn changed_password(login: &Login) -> Option<String> {
    read_file(login.password_file.as_deref()?).await.ok()
}

/// What a password's source is worth.
fn trimmed(text: &[u8], origin: String) -> Result<String, LoginError> {
    let Ok(text) = std::str::from_utf8(text) else {
        return Err(LoginError::NotUtf8 { origin });
    };
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.len() > LONGEST {
        return Err(LoginError::Length {
            origin,
            len: text.len(),
            longest: LONGEST,
        });
    }
    Ok(text.to_owned())
}

/// Before the token ends, with time for a few tries.
fn renewal(lifetime: Duration) -> Duration {
    lifetime.mul_f32(0.8)
}

async fn read_file(path: &Path) -> Result<String, LoginError> {
    let file = path.to_owned();
    // A pipe is not waited for.
    let read = tokio::task::spawn_blocking(move || private::read(&file, MOST)).await;
    let text = read.map_err(io::Error::from).flatten();
    let text = text.map_err(|cause| LoginError::File {
        path: path.to_owned(),
        cause,
    })?;
    trimmed(&text, path.display().to_string())
}

async fn run(program: &str, arguments: &[String]) -> Result<String, LoginError> {
    let name = || program.to_owned();
    let mut command = Command::new(program);
    let output = timeout(COMMAND_TIME, programs::run(command.args(arguments))).await;
    let output = output.map_err(|_| LoginError::Slow {
        program: name(),
        limit: COMMAND_TIME,
    })?;
    let output = output.map_err(|cause| LoginError::Command {
        program: name(),
        cause,
    })?;
    if !output.status.success() {
        return Err(LoginError::Failed {
            program: name(),
            status: output.status,
        });
    }
    trimmed(&output.stdout, format!("`{program}`"))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `SharedAccessSignature sr=…&sig=…&se=…`, as Azure IoT Hub and DPS want it.
fn sas_token(sas: &Sas, key: &str, now: SystemTime) -> Result<String, LoginError> {
    let key = STANDARD.decode(key.trim());
    let mut key = key.map_err(|_| LoginError::SasKey)?;
    if let Some(registration_id) = &sas.derive_for {
        key = sign(&key, registration_id);
    }
    let resource = escape(&sas.resource);
    let expires = seconds(now) + sas.lifetime.as_secs();
    let signature = sign(&key, &format!("{resource}\n{expires}"));
    let signature = escape(&STANDARD.encode(signature));
    let policy = sas
        .policy
        .as_ref()
        .map(|policy| format!("&skn={}", escape(policy)));
    let policy = policy.unwrap_or_default();
    Ok(format!(
        "SharedAccessSignature sr={resource}&sig={signature}&se={expires}{policy}"
    ))
}

/// RFC 2104, with SHA-256. So a device's key is made of its group's, too.
fn sign(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Writes what is not unreserved as `%41`. RFC 3986 §2.1
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// A JSON Web Token signed with our private key. RFC 7519
fn jwt_token(jwt: &Jwt, key: &str, now: SystemTime) -> Result<String, LoginError> {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    let wrong = |cause| LoginError::Jwt {
        path: jwt.key.clone(),
        cause,
    };
    let (algorithm, key) = match jwt.algorithm {
        JwtAlgorithm::Rs256 => (Algorithm::RS256, EncodingKey::from_rsa_pem(key.as_bytes())),
        JwtAlgorithm::Es256 => (Algorithm::ES256, EncodingKey::from_ec_pem(key.as_bytes())),
    };
    let issued = seconds(now);
    let mut claims = serde_json::json!({
        "iat": issued,
        "exp": issued + jwt.lifetime.as_secs(),
        "aud": jwt.audience,
    });
    if let Some(subject) = &jwt.subject {
        claims["sub"] = subject.as_str().into();
    }
    encode(&Header::new(algorithm), &claims, &key.map_err(wrong)?).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// The signature was computed with OpenSSL: HMAC-SHA256 of `hub.example%2Fdevices%2Fpump-7`, a line feed and `1700003600`.
    #[test]
    fn a_sas_token_names_resource_signature_and_end() {
        let sas = Sas {
            resource: "hub.example/devices/pump-7".into(),
            key: "c2VjcmV0".into(),
            key_file: None,
            derive_for: None,
            policy: None,
            lifetime: Duration::from_secs(3_600),
        };
        let token = sas_token(&sas, sas.key.reveal(), at(1_700_000_000)).unwrap();
        assert_eq!(
            token,
            "SharedAccessSignature sr=hub.example%2Fdevices%2Fpump-7&sig=0QGzM%2Bf95oT7BxFhArVfynef%2BwkfW9XPCaCFJxMntio%3D&se=1700003600"
        );
        let error = sas_token(&sas, "no base64!", at(0)).unwrap_err().to_string();
        assert!(!error.contains("no base64!"), "a key is never shown: {error}");
    }

    /// The example of Azure's "Provision devices using symmetric key enrolment groups".
    #[tokio::test]
    async fn a_devices_key_is_made_of_its_groups() {
        let group =
            "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, format!("{group}\n")).unwrap();
        let sas = |key: &str, key_file, derive_for: Option<&str>| Login {
            sas: Some(Sas {
                resource: "0ne/registrations/r".into(),
                key: key.into(),
                key_file,
                derive_for: derive_for.map(str::to_owned),
                policy: Some("registration".into()),
                lifetime: Duration::from_secs(3_600),
            }),
            ..Login::default()
        };
        let device = "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6";
        let derived = read(&sas("", Some(path), Some(device)), at(0))
            .await
            .unwrap_text();
        let own = sas("Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=", None, None);
        assert_eq!(derived, read(&own, at(0)).await.unwrap_text());
        assert!(derived.ends_with("&se=3600&skn=registration"), "{derived}");
    }

    #[tokio::test]
    async fn a_password_file_is_read_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let login = Login {
            username: Some("ann".into()),
            password_file: Some(path.clone()),
            ..Login::default()
        };
        assert!(read(&login, at(0)).await.unwrap_err_text().contains("token"));
        for password in ["first", "second"] {
            std::fs::write(&path, format!("{password}\n")).unwrap();
            let found = read(&login, at(0)).await.unwrap_text();
            assert_eq!(found, password);
        }
    }

    #[tokio::test]
    async fn a_command_prints_the_password_or_says_why_not() {
        let login = |words: &[&str]| Login {
            password_command: words.iter().map(|word| (*word).to_owned()).collect(),
            ..Login::default()
        };
        let found = read(&login(&["echo", "fresh"]), at(0)).await.unwrap_text();
        assert_eq!(found, "fresh");
        let error = read(&login(&["false"]), at(0)).await.unwrap_err_text();
        assert!(error.contains("`false` failed"), "{error}");
        let error = read(&login(&["true"]), at(0)).await.unwrap_err_text();
        assert!(error.contains("1 to 65535 bytes"), "{error}");
    }

    trait Texts {
        fn unwrap_text(self) -> String;
        fn unwrap_err_text(self) -> String;
    }

    impl Texts for Result<Read, LoginError> {
        fn unwrap_text(self) -> String {
            self.map(|read| read.password.unwrap()).unwrap()
        }

        fn unwrap_err_text(self) -> String {
            self.err().unwrap().to_string()
        }
    }
}
