//! One signed file makes a gateway of a certain plant out of one as it comes from the factory: its name and settings, certificates, users and administrators.
//! The system beside it reads the network from the same file.
//!
//! A file that is accepted lies in the data folder until all of it is done, before the gateway's parts are made: by the start of the gateway, or by a command
//! where none runs. Each step may be done twice, so a power cut in between loses nothing. A file is taken once: its number must be higher than the one before.

mod document;
mod network;
mod originals;
mod signed;
mod text;

use crate::config::{Config, ConfigError, EditError, Told, edited, environment_variables, line_of};
use crate::live::ConfigFile;
use crate::private;
use crate::sys::unix_time;
use document::line_of_setting;
pub(crate) use document::{Document, DocumentError};
use headgate_admin::{Admin, AdminError, Moment};
use headgate_auth::{Access, Users, UsersError};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub(crate) use signed::{Keys, SignedError, read, sign};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The file that is accepted and not done, in the data folder.
const WAITS: &str = "provisioning.toml";
/// What could not be done.
const REFUSED: &str = "provisioning.refused";
/// What the configuration would be is called.
const MERGED: &str = "the configuration with the provisioning file";
/// What its first line begins with.
const WHY: &str = "# refused: ";
/// What was done last.
const TAKEN: &str = "provisioning.json";
/// The file that was done last, as it was signed: the system reads its network from it, and looks at the signature again.
const KEPT: &str = "provisioning.taken";
/// Certificates and keys of the file.
const FOLDER: &str = "provisioned";

/// The alarm that stands while one waits.
pub(crate) const WAITS_ALARM: &str = "provisioning_waits";

/// One file at a time is looked at and put where it waits, or done.
static TURN: Mutex<()> = Mutex::new(());

/// Why a provisioning file is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProvisioningError {
    /// Nobody who may has signed it.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// It says nothing that can be done.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// It was taken before, or another one after it.
    #[error("it has number {number}, and number {taken} was taken already: a new one needs a higher number")]
    NotNewer {
        /// Its own.
        number: u64,
        /// The one before.
        taken: u64,
    },
    /// What an earlier one says is not done yet.
    #[error(
        "number {0} waits for the next start of the gateway, which does what it says: `headgate restart`"
    )]
    Waits(u64),
    /// Another machine is meant.
    #[error("it is for other machines; this one is known as {}", .0.join(", "))]
    Others(Vec<String>),
    /// Its settings do not go into the configuration.
    #[error("configuration: {0}")]
    Edit(#[from] EditError),
    /// Its settings are none.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Settings(Vec<Told>),
    /// No gateway could run with them.
    #[error("with its settings the gateway could not be started: {0}")]
    Config(#[from] ConfigError),
    /// A user cannot be.
    #[error("users: {0}")]
    Users(#[from] UsersError),
    /// An administrator cannot be.
    #[error("administrators: {0}")]
    Admin(#[from] AdminError),
    /// Somebody cannot be.
    #[error("{}: line {line}: {what}", .path.display())]
    Person {
        /// The file.
        path: PathBuf,
        /// Of the file, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// It brings a key that does not believe it.
    #[error(
        "configuration.firmware.provisioning_key: a file that names another key must be signed by that one, too: put the old and the new public key into one PEM file ({0})"
    )]
    NewKey(Box<SignedError>),
    /// The disk.
    #[error("{}: {cause}", .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

impl ProvisioningError {
    /// Whether it is the disk's or the system's trouble, and the file may be done at a later start. Faults of a configuration are words by then, so the number is
    /// looked for in these.
    fn may_pass(&self) -> bool {
        let passing = [
            libc::ENOSPC,
            libc::EDQUOT,
            libc::EIO,
            libc::EROFS,
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOMEM,
        ];
        let told = self.to_string();
        passing
            .iter()
            .any(|number| told.contains(&format!("(os error {number})")))
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ProvisioningError {
    let path = path.to_owned();
    move |cause| ProvisioningError::File { path, cause }
}

/// A file that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Taken {
    /// Its number.
    pub(crate) number: u64,
    /// When, in seconds since 1970.
    pub(crate) at: u64,
    /// Whether the audit log says so.
    #[serde(default)]
    pub(crate) is_told: bool,
}

/// The last file that was taken.
pub(crate) fn taken(data_dir: &Path) -> Option<Taken> {
    private::read_json(&data_dir.join(TAKEN), 4_096)
}

/// Whether a start of the gateway has something to do: one waits, or was taken away while it was done.
pub(crate) fn is_unfinished(data_dir: &Path) -> bool {
    waits(data_dir) || originals::are_left(data_dir)
}

/// Whether certificates of before and new ones may be there side by side.
pub(crate) fn is_half_done(data_dir: &Path) -> bool {
    originals::are_kept(data_dir)
}

/// Whether one waits for the next start of the gateway.
pub(crate) fn waits(data_dir: &Path) -> bool {
    data_dir.join(WAITS).exists()
}

/// The number of the one that waits. One that nobody who may has signed is none.
fn waiting(data_dir: &Path, keys: &Keys) -> Option<u64> {
    let text = read(&data_dir.join(WAITS)).ok()?.ok()?;
    Some(Document::parse(keys.verify(&text).ok()?).ok()?.number)
}

/// The audit log says so now.
pub(crate) fn was_told(data_dir: &Path) {
    if let Some(taken) = taken(data_dir) {
        let told = note(
            data_dir,
            &Taken {
                is_told: true,
                ..taken
            },
        );
        if let Err(error) = told {
            tracing::warn!(%error, "the audit log will say again that a provisioning file was taken");
        }
    }
}

fn note(data_dir: &Path, taken: &Taken) -> Result<(), ProvisioningError> {
    let path = data_dir.join(TAKEN);
    let text = serde_json::to_vec(taken).map_err(io::Error::from);
    text.and_then(|text| private::replace(&path, &text))
        .map_err(at(&path))
}

/// Names of this machine, by which a file can be for it alone: addresses of its interfaces, and serial numbers.
pub(crate) fn machine() -> Vec<String> {
    let interfaces = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let addresses = interfaces.map(|interface| interface.path().join("address"));
    let serial = PathBuf::from("/proc/device-tree/serial-number");
    let texts = addresses
        .chain([serial])
        .filter_map(|path| fs::read_to_string(path).ok());
    let mut names: Vec<String> = texts
        .map(|text| {
            text.trim_matches(|c: char| c == '\0' || c.is_whitespace())
                .to_owned()
        })
        .filter(|name| !name.is_empty() && name != "00:00:00:00:00:00")
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Whether somebody may have these names and passwords.
fn check_people(path: &Path, text: &str, document: &Document) -> Result<(), ProvisioningError> {
    let wrong = |list: &str, n: usize, error: &dyn std::fmt::Display| ProvisioningError::Person {
        path: path.to_owned(),
        line: line_of(text, &format!("{list}[{n}]")),
        what: format!("{list}: {error}"),
    };
    for (n, user) in document.users.iter().enumerate() {
        Users::check(&user.name, &user.password).map_err(|error| wrong("users", n, &error))?;
    }
    for (n, new) in document.administrators.iter().enumerate() {
        Admin::check(&new.name, &new.password).map_err(|error| wrong("administrators", n, &error))?;
    }
    Ok(())
}

/// A key that does not believe the signed file which brings it believes no later one of its kind, and the system would not take its network. `config`: with
/// the file's settings.
fn check_new_key(
    document: &Document,
    signed: &str,
    config: &Config,
    data_dir: &Path,
) -> Result<(), ProvisioningError> {
    let path = &config.firmware.provisioning_key;
    // Those of services begin in their data folder.
    let within = path.strip_prefix(data_dir).unwrap_or(path);
    let own = within
        .strip_prefix(FOLDER)
        .ok()
        .and_then(|name| document.file(name));
    match (own, document.provisioning_key()) {
        (Some(pem), _) => believes(Keys::of_pem(path, pem.as_bytes()), signed),
        (None, Some(_)) => believes(Keys::load(path), signed),
        (None, None) => Ok(()),
    }
}

/// The same where there is no gateway: of a key that seems to be one of the file's own.
pub(crate) fn check_own_new_key(document: &Document, signed: &str) -> Result<(), ProvisioningError> {
    let path = document.provisioning_key().map(Path::new);
    let own = path.and_then(|path| {
        let folder = path.parent()?;
        let is_own = folder.ends_with(FOLDER) && (path.is_absolute() || folder == Path::new(FOLDER));
        is_own.then(|| document.file(Path::new(path.file_name()?)))?
    });
    match (path, own) {
        (Some(path), Some(pem)) => believes(Keys::of_pem(path, pem.as_bytes()), signed),
        _ => Ok(()),
    }
}

fn believes(keys: Result<Keys, SignedError>, signed: &str) -> Result<(), ProvisioningError> {
    let verified = keys.and_then(|keys| keys.verify(signed).map(drop));
    verified.map_err(|error| ProvisioningError::NewKey(Box::new(error)))
}

/// Whether these are settings, each by itself. Faults name the line of the file.
fn check_settings(path: &Path, text: &str) -> Result<(), ProvisioningError> {
    let mut faults = Config::faults_of_part(Some(path), text, "configuration");
    if faults.is_empty() {
        return Ok(());
    }
    faults.sort_by_key(|fault| fault.place.line());
    Err(ProvisioningError::Settings(faults))
}

/// Whether the file is one that some gateway could take; and what is probably not as it was meant, or would be missed on a gateway that has its defaults alone.
pub(crate) fn judge(path: &Path, text: &str, document: &Document) -> Result<Vec<String>, ProvisioningError> {
    check_settings(path, text)?;
    check_people(path, text, document)?;
    let merged = edited("", &document.edits())?;
    let against = Config::of_text(None, merged, []).err();
    let (faults, _) = against.map(ConfigError::told).unwrap_or_default();
    let mut doubts = document.doubts();
    doubts.extend(faults.iter().map(|fault| {
        let line = line_of_setting(text, &fault.key, &fault.message);
        let (path, key, message) = (path.display(), &fault.key, &fault.message);
        format!("{path}:{line}: a gateway that has the defaults besides refuses this: configuration.{key}: {message}")
    }));
    Ok(doubts)
}

/// A link would lead elsewhere.
fn make_own_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    match fs::symlink_metadata(folder)?.is_dir() {
        true => Ok(()),
        false => Err(io::Error::other("it is no folder of the gateway's own")),
    }
}

/// Checks a file, and has it wait for the next start of the gateway, which does what it says. Its number.
pub(crate) fn accept(
    text: String,
    keys: &Keys,
    data_dir: &Path,
    file: &ConfigFile,
) -> Result<u64, ProvisioningError> {
    let _turn = TURN.lock();
    let accepted = Accepted::check(text, keys, data_dir, file)?;
    accepted.wait_for_start(data_dir)?;
    Ok(accepted.document.number)
}

/// A file that may be taken by a gateway.
#[derive(Debug)]
struct Accepted {
    text: String,
    document: Document,
}

impl Accepted {
    /// One that was checked already: its signature alone is looked at.
    fn of_signed(text: String, key: &Path) -> Result<Self, ProvisioningError> {
        let document = Document::parse(Keys::load(key)?.verify(&text)?)?;
        Ok(Self { text, document })
    }

    /// Checks all that can be checked without changing anything.
    fn check(
        text: String,
        keys: &Keys,
        data_dir: &Path,
        file: &ConfigFile,
    ) -> Result<Self, ProvisioningError> {
        let document = Document::parse(keys.verify(&text)?)?;
        let machine = machine();
        if !document.is_for(&machine) {
            return Err(ProvisioningError::Others(machine));
        }
        if let Some(number) = waiting(data_dir, keys) {
            return Err(ProvisioningError::Waits(number));
        }
        let before = taken(data_dir).map(|taken| taken.number);
        if let Some(taken) = before.filter(|taken| document.number <= *taken) {
            let number = document.number;
            return Err(ProvisioningError::NotNewer { number, taken });
        }
        let name = Path::new("the file");
        check_settings(name, &text)?;
        check_people(name, &text, &document)?;
        let accepted = Self { text, document };
        let merged = Config::of_text(
            Some(Path::new(MERGED)),
            accepted.configuration(file)?,
            environment_variables(),
        )
        .map_err(|error| error.without_lines(Path::new(MERGED)))?;
        check_new_key(&accepted.document, &accepted.text, &merged, data_dir)?;
        Ok(accepted)
    }

    /// From here on no power cut takes it away.
    fn wait_for_start(&self, data_dir: &Path) -> Result<(), ProvisioningError> {
        let path = data_dir.join(WAITS);
        private::replace(&path, self.text.as_bytes()).map_err(at(&path))
    }

    fn configuration(&self, file: &ConfigFile) -> Result<String, ProvisioningError> {
        Ok(edited(&file.text()?, &self.document.edits())?)
    }

    /// What it says is done, in this order, so that it can be done again from the beginning.
    fn carry_out(&self, data_dir: &Path, file: &ConfigFile) -> Result<Taken, ProvisioningError> {
        let document = &self.document;
        let text = self.configuration(file)?;
        self.write_files(data_dir)?;
        let started = Config::read_to_start(Some(file.path()), text.clone(), environment_variables());
        let started = started.map_err(|error| error.without_lines(Path::new(MERGED)))?;
        self.check_key_in_place(data_dir, &started.config)?;
        let admin = Admin::load(data_dir, started.config.http.session_idle)?;
        let users_file = Access::users_file(&started.config.auth, data_dir);
        Users::load(&users_file)?;
        // Where it cannot be written, nobody is there who was not there before.
        if !document.configuration.is_empty() {
            originals::note_end(data_dir, &text).map_err(at(data_dir))?;
            file.write(&text).map_err(at(file.path()))?;
        }
        if !document.users.is_empty() {
            Users::change(&users_file, |users| {
                let mut each = document.users.iter();
                each.try_for_each(|user| users.set(&user.name, &user.password).map(drop))
            })?;
        }
        self.add_administrators(&admin)?;
        let kept = data_dir.join(KEPT);
        private::replace(&kept, self.text.as_bytes()).map_err(at(&kept))?;
        let done = Taken {
            number: document.number,
            at: unix_time(),
            is_told: false,
        };
        note(data_dir, &done)?;
        originals::forget(data_dir).map_err(at(data_dir))?;
        Ok(done)
    }

    /// Puts certificates and keys into their places. Those of before are kept.
    fn write_files(&self, data_dir: &Path) -> Result<(), ProvisioningError> {
        let files = &self.document.files;
        if files.is_empty() {
            return Ok(());
        }
        let folder = data_dir.join(FOLDER);
        make_own_folder(&folder).map_err(at(&folder))?;
        originals::keep(data_dir, &self.text, files.iter().map(|new| &*new.name.0)).map_err(at(data_dir))?;
        for new in files {
            let path = folder.join(&new.name.0);
            // What an interrupted start has written is not written again: that needs no space.
            let longest = new.text.len() as u64;
            let is_there = private::read(&path, longest).is_ok_and(|bytes| bytes == new.text.as_bytes());
            if !is_there {
                private::replace(&path, new.text.as_bytes()).map_err(at(&path))?;
            }
        }
        Ok(())
    }

    /// [`check_new_key`] once more, where the key's file is in its place: its path may be spelled in many ways.
    fn check_key_in_place(&self, data_dir: &Path, config: &Config) -> Result<(), ProvisioningError> {
        let path = &config.firmware.provisioning_key;
        let own = data_dir.join(FOLDER).canonicalize().ok();
        let name = path.canonicalize().ok();
        let name = name.as_deref().zip(own.as_deref());
        let name = name.and_then(|(path, own)| path.strip_prefix(own).ok());
        let is_own = name.is_some_and(|name| self.document.file(name).is_some());
        match is_own || self.document.provisioning_key().is_some() {
            true => believes(Keys::load(path), &self.text),
            false => Ok(()),
        }
    }

    fn add_administrators(&self, admin: &Admin) -> Result<(), ProvisioningError> {
        for new in &self.document.administrators {
            let now = Moment {
                steady: Instant::now(),
                unix: unix_time(),
            };
            match admin.add(&new.name, &new.password, new.role, now) {
                Err(AdminError::Exists(_)) => admin.alter(&new.name, Some(&new.password), Some(new.role))?,
                added => added?,
            }
        }
        Ok(())
    }
}

/// Before a gateway starts, or where none runs: does what a file says that waits for that. `None`: none waits. What cannot be done is put aside, so that it
/// is in no later start's way. `key`: whose signature it must have; who can write the data folder alone is not believed.
pub(crate) fn finish_waiting(
    data_dir: &Path,
    key: &Path,
    file: &ConfigFile,
) -> Option<Result<Taken, ProvisioningError>> {
    let _turn = TURN.lock();
    let path = data_dir.join(WAITS);
    let read = match read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Somebody has taken it away in the middle.
            match is_written(data_dir, file) {
                Some(true) => forget_originals(data_dir),
                Some(false) => put_back(data_dir),
                None => {}
            }
            return None;
        }
        Ok(read) => read,
        // It may be readable the next time.
        Err(error) => {
            give_up(data_dir, file);
            return Some(Err(at(&path)(error)));
        }
    };
    let (text, accepted) = match read {
        Ok(text) => (text.clone(), Accepted::of_signed(text, key)),
        Err(error) => (String::new(), Err(error.into())),
    };
    let done = accepted.and_then(|accepted| accepted.carry_out(data_dir, file));
    if let Err(error) = &done
        && (!give_up(data_dir, file) || error.may_pass())
    {
        return Some(done);
    }
    let refused = data_dir.join(REFUSED);
    let noted = match &done {
        Ok(_) => private::remove(&refused),
        Err(error) => private::replace(&refused, format!("{WHY}{}\n{text}", one_line(error)).as_bytes()),
    };
    let gone = noted.map_err(at(&refused));
    let gone = gone.and_then(|()| private::remove(&path).map_err(at(&path)));
    Some(done.and_then(|done| gone.map(|()| done)))
}

/// Whether the configuration is the new one already, for which the new certificates are meant: then none of before is put back, and what is left to do is done at a
/// later start. `None`: that cannot be read now.
fn is_written(data_dir: &Path, file: &ConfigFile) -> Option<bool> {
    let text = file.text().ok()?;
    Some(originals::is_end(data_dir, &text))
}

/// Puts certificates and keys of before back, unless the new configuration is written. Whether nothing of the file is valid then.
fn give_up(data_dir: &Path, file: &ConfigFile) -> bool {
    let is_over = is_written(data_dir, file) == Some(false);
    if is_over {
        put_back(data_dir);
    }
    is_over
}

/// Certificates and keys are those of before the file that is not done to its end, if there is one.
pub(crate) fn put_back(data_dir: &Path) {
    if let Err(error) = originals::put_back(data_dir) {
        let folder = data_dir.join(FOLDER);
        tracing::error!(folder = %folder.display(), %error, "certificates and keys of before are not put back");
    }
}

fn forget_originals(data_dir: &Path) {
    if let Err(error) = originals::forget(data_dir) {
        tracing::error!(folder = %data_dir.display(), %error, "certificates and keys of before are not removed");
    }
}

/// Why the last file could not be done, if it could not.
pub(crate) fn refused(data_dir: &Path) -> Option<String> {
    let text = private::read(&data_dir.join(REFUSED), private::LONGEST).ok()?;
    let text = String::from_utf8_lossy(&text);
    let why = text.lines().next()?.strip_prefix(WHY)?;
    Some(why.to_owned())
}

fn one_line(error: &ProvisioningError) -> String {
    error.to_string().replace('\n', "; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_admin::Role;

    struct Gateway(tempfile::TempDir);

    impl Gateway {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let text = format!(
                "# of the plant\nnode = \"new\"\ndata_dir = \"{}\"\n",
                folder.path().display()
            );
            fs::write(folder.path().join("headgate.toml"), text).unwrap();
            Self(folder)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn file(&self) -> ConfigFile {
            ConfigFile::Given(self.path("headgate.toml"))
        }

        fn accepted(&self, text: &str) -> Result<Accepted, ProvisioningError> {
            let (private, public) = signed::tests::files(self.0.path(), 0, &[0]);
            let text = sign(text, &private).unwrap();
            Accepted::check(text, &Keys::load(&public).unwrap(), self.0.path(), &self.file())
        }

        fn finish(&self) -> Option<Result<Taken, ProvisioningError>> {
            finish_waiting(self.0.path(), &self.path("signer.pem"), &self.file())
        }

        /// Has a file wait for the next start.
        fn waits_for(&self, text: &str) {
            let accepted = self.accepted(text).unwrap();
            accepted.wait_for_start(self.0.path()).unwrap();
        }
    }

    const PLANT: &str = "number = 7\n[configuration]\nnode = \"plant-7\"\n\
        [[configuration.bridges]]\nname = \"cloud\"\naddresses = [\"mqtts://cloud.plant\"]\n\
        [[users]]\nname = \"pump\"\npassword = \"pump password\"\n\
        [[administrators]]\nname = \"anna\"\npassword = \"correct horse battery\"\n\
        [[files]]\nname = \"ca.pem\"\ntext = \"CERTIFICATE\"\n";

    #[test]
    fn all_that_the_file_says_is_done_and_what_else_was_there_stays() {
        let gateway = Gateway::new();
        gateway.waits_for(PLANT);
        assert!(waits(gateway.0.path()));
        let taken = gateway.finish().unwrap().unwrap();
        assert_eq!(taken.number, 7);
        assert!(!waits(gateway.0.path()) && gateway.finish().is_none());

        let text = fs::read_to_string(gateway.path("headgate.toml")).unwrap();
        assert!(
            text.starts_with("# of the plant\nnode = \"plant-7\"\n")
                && text.contains("data_dir")
                && text.contains("cloud.plant"),
            "{text}"
        );
        assert_eq!(
            fs::read_to_string(gateway.path("provisioned/ca.pem")).unwrap(),
            "CERTIFICATE"
        );
        assert_eq!(
            Users::load(&gateway.path("users.json"))
                .unwrap()
                .has_password("pump", "pump password"),
            Some(true)
        );
        let admin = Admin::load(gateway.0.path(), std::time::Duration::from_secs(60)).unwrap();
        assert_eq!(admin.administrators()[0].role, Role::Administrator);
        assert!(
            admin.setup_code().is_none(),
            "nobody else is to make the first one"
        );
    }

    /// What is accepted is done, and done twice changes nothing: a power cut after any step leaves the file waiting.
    #[test]
    fn a_file_is_taken_once_and_a_power_cut_in_between_changes_nothing() {
        let gateway = Gateway::new();
        let accepted = gateway.accepted(PLANT).unwrap();
        accepted.wait_for_start(gateway.0.path()).unwrap();
        accepted.carry_out(gateway.0.path(), &gateway.file()).unwrap();
        let once = fs::read_to_string(gateway.path("headgate.toml")).unwrap();
        gateway.finish().unwrap().unwrap();
        assert_eq!(fs::read_to_string(gateway.path("headgate.toml")).unwrap(), once);

        for (number, is_taken) in [(6, false), (7, false), (8, true)] {
            let accepted = gateway.accepted(&format!("number = {number}\n"));
            assert_eq!(accepted.is_ok(), is_taken, "{number}");
        }
        // One that waits is not put aside by an older one.
        gateway.waits_for("number = 20\n");
        assert!(gateway.accepted("number = 15\n").is_err());

        // What cannot be read now is left for the next start.
        fs::remove_file(gateway.path(WAITS)).unwrap();
        fs::create_dir(gateway.path(WAITS)).unwrap();
        assert!(gateway.finish().unwrap().is_err() && gateway.path(WAITS).exists());
    }

    /// Who can write the data folder has nothing done by that.
    #[test]
    fn what_waits_and_was_signed_by_nobody_is_put_aside() {
        let gateway = Gateway::new();
        let before = fs::read_to_string(gateway.path("headgate.toml")).unwrap();
        gateway.waits_for(PLANT);
        let signed = fs::read_to_string(gateway.path(WAITS)).unwrap();
        for (text, why) in [
            (PLANT.to_owned(), "its first line is not"),
            (
                signed.replace("plant-7", "plant-8"),
                "its signature is not of this key",
            ),
        ] {
            fs::write(gateway.path(WAITS), text).unwrap();
            gateway.accepted("number = 1\n").unwrap();
            assert!(gateway.finish().unwrap().is_err() && gateway.finish().is_none());
            let told = refused(gateway.0.path()).unwrap();
            assert!(told.contains(why), "{told}");
            assert_eq!(fs::read_to_string(gateway.path("headgate.toml")).unwrap(), before);
        }
        // Where there is no key, nobody may.
        fs::write(gateway.path(WAITS), &signed).unwrap();
        fs::remove_file(gateway.path("signer.pem")).unwrap();
        assert!(gateway.finish().unwrap().is_err() && taken(gateway.0.path()).is_none());
    }

    /// Otherwise the gateway would believe no later file, and the system not this one's network.
    #[test]
    fn a_file_that_brings_another_key_is_signed_by_that_one_too() {
        let gateway = Gateway::new();
        let pem = |keys: &[usize]| {
            let (_, public) = signed::tests::files(gateway.0.path(), 0, keys);
            fs::read_to_string(public).unwrap()
        };
        let file = |pem: &str| {
            format!(
                "number = 1\n[configuration.firmware]\nprovisioning_key = \"provisioned/signer.pem\"\n\
                [[files]]\nname = \"signer.pem\"\ntext = '''{pem}'''\n"
            )
        };
        let (other, both) = (pem(&[1]), pem(&[1, 0]));
        let refused = gateway.accepted(&file(&other));
        assert!(matches!(refused, Err(ProvisioningError::NewKey(_))));
        gateway.accepted(&file(&both)).unwrap();
        let nowhere = file(&both).replace("provisioned/signer.pem", "/nowhere.pem");
        assert!(matches!(
            gateway.accepted(&nowhere),
            Err(ProvisioningError::NewKey(_))
        ));
    }

    /// A full disk is no fault of the file: it waits for the next start.
    #[test]
    fn trouble_of_the_disk_may_pass_wherever_it_is_met() {
        let (path, cause) = (PathBuf::from("f"), || io::Error::from_raw_os_error(libc::ENOSPC));
        let of_users = UsersError::Io {
            path: path.clone(),
            cause: cause(),
        };
        let of_administrators = AdminError::File {
            path: path.clone(),
            cause: cause(),
        };
        let of_key = SignedError::Unread {
            path: path.clone(),
            cause: cause(),
        };
        let unread = ConfigError::Read {
            path: path.clone(),
            cause: cause(),
        };
        for error in [
            at(&path)(cause()),
            of_users.into(),
            of_administrators.into(),
            of_key.into(),
            // Faults are words, such as those of a certificate that cannot be read.
            ConfigError::from(unread.told().0).into(),
        ] {
            assert!(error.may_pass(), "{error}");
        }
        assert!(!at(&path)(io::Error::from_raw_os_error(libc::EACCES)).may_pass());
        assert!(!ProvisioningError::from(UsersError::Name).may_pass());
    }

    /// From then on the gateway starts with the new ones, whatever fails behind it.
    #[test]
    fn behind_the_writing_of_the_configuration_nothing_is_put_back() {
        let gateway = Gateway::new();
        let place = gateway.path("provisioned/a.pem");
        let stands = || fs::read_to_string(&place).unwrap();
        let node = || fs::read_to_string(gateway.path("headgate.toml")).unwrap();
        fs::create_dir(gateway.path(FOLDER)).unwrap();
        let file = |number: u32| {
            format!(
                "number = {number}\n[configuration]\nnode = \"n{number}\"\n[[files]]\nname = \"a.pem\"\ntext = \"new {number}\"\n"
            )
        };
        for (number, is_taken_away) in [(1, false), (2, true)] {
            fs::write(&place, "of before").unwrap();
            gateway.waits_for(&file(number));
            let kept = gateway.path(KEPT);
            let _ = fs::remove_file(&kept);
            fs::create_dir(&kept).unwrap();
            gateway.finish().unwrap().unwrap_err();
            assert!(waits(gateway.0.path()) && is_half_done(gateway.0.path()));
            assert_eq!(stands(), format!("new {number}"));
            assert!(node().contains(&format!("node = \"n{number}\"")));
            fs::remove_dir(&kept).unwrap();
            if is_taken_away {
                fs::remove_file(gateway.path(WAITS)).unwrap();
                assert!(gateway.finish().is_none());
            } else {
                assert_eq!(gateway.finish().unwrap().unwrap().number, 1);
            }
            assert_eq!(stands(), format!("new {number}"));
            assert!(!is_unfinished(gateway.0.path()));
        }
    }

    /// However the path of the key in use is spelled.
    #[test]
    fn a_file_that_replaces_the_key_in_use_is_signed_by_the_new_one() {
        let gateway = Gateway::new();
        let (_, other) = signed::tests::files(gateway.0.path(), 0, &[1]);
        let other = fs::read_to_string(other).unwrap();
        fs::create_dir(gateway.path(FOLDER)).unwrap();
        std::os::unix::fs::symlink(gateway.0.path(), gateway.path("itself")).unwrap();
        let own = fs::read_to_string(gateway.path("headgate.toml")).unwrap();
        for spelled in [
            "itself/provisioned/signer.pem",
            "provisioned/../provisioned/signer.pem",
        ] {
            let (_, in_use) = signed::tests::files(gateway.0.path(), 0, &[0]);
            let in_use = fs::read(in_use).unwrap();
            fs::write(gateway.path("provisioned/signer.pem"), &in_use).unwrap();
            let key = gateway.path(spelled);
            let firmware = format!("[firmware]\nprovisioning_key = \"{}\"\n", key.display());
            fs::write(gateway.path("headgate.toml"), format!("{own}{firmware}")).unwrap();
            let file = format!("number = 1\n[[files]]\nname = \"signer.pem\"\ntext = '''{other}'''\n");
            gateway.waits_for(&file);
            let refused = gateway.finish().unwrap();
            assert!(
                matches!(refused, Err(ProvisioningError::NewKey(_))),
                "{refused:?}"
            );
            assert_eq!(fs::read(gateway.path("provisioned/signer.pem")).unwrap(), in_use);
        }
    }

    /// A start that is refused the file has the certificates of before, wherever it was interrupted.
    #[test]
    fn a_power_cut_leaves_the_way_back() {
        let gateway = Gateway::new();
        let place = |name: &str| gateway.path(FOLDER).join(name);
        let stands = |name: &str| fs::read_to_string(place(name)).ok();
        fs::create_dir(gateway.path(FOLDER)).unwrap();
        let file = "number = 1\n[[configuration.listeners]]\nname = \"tls\"\nbind = \"127.0.0.1:0\"\nkind = \"tls\"\n\
            tls = { certificate = \"/nowhere.pem\", key = \"/nowhere.key\" }\n\
            [[files]]\nname = \"a.pem\"\ntext = \"new\"\n[[files]]\nname = \"b.pem\"\ntext = \"new\"\n[[files]]\nname = \"c.pem\"\ntext = \"new\"\n";
        let names = || ["a.pem", "b.pem", "c.pem"].into_iter();
        let keep = || {
            let text = fs::read_to_string(gateway.path(WAITS)).unwrap();
            originals::keep(gateway.0.path(), &text, names())
        };
        let cuts: [&dyn Fn(); 9] = [
            &|| {},
            // Within the making of the folder.
            &|| fs::create_dir(gateway.path("provisioned.before.new")).unwrap(),
            // Within the replacing.
            &|| {
                keep().unwrap();
                private::replace(&place("a.pem"), b"new").unwrap();
                fs::write(place("b.pem.new"), "n").unwrap();
            },
            // Behind it, and within the putting back.
            &|| {
                keep().unwrap();
                private::replace(&place("b.pem"), b"new").unwrap();
                private::replace(&place("c.pem"), b"new").unwrap();
                fs::hard_link(gateway.path("provisioned.before/b.pem"), place("b.pem.new")).unwrap();
            },
            // Within the end of that.
            &|| {
                keep().unwrap();
                let kept = gateway.path("provisioned.before");
                fs::rename(kept, gateway.path("provisioned.before.new")).unwrap();
                fs::remove_file(gateway.path("provisioned.before.new/a.pem")).unwrap();
            },
            // Within the making of the folder, in whose place there is something else.
            &|| fs::write(gateway.path("provisioned.before.new"), "").unwrap(),
            // Within the replacing by another file, in whose place this one was put.
            &|| {
                originals::keep(gateway.0.path(), "another file", ["c.pem"].into_iter()).unwrap();
                private::replace(&place("c.pem"), b"of the other file").unwrap();
            },
            // Within, and the file cannot be read since.
            &|| {
                keep().unwrap();
                private::replace(&place("a.pem"), b"new").unwrap();
                fs::remove_file(gateway.path(WAITS)).unwrap();
                fs::create_dir(gateway.path(WAITS)).unwrap();
            },
            // Within, and somebody has taken the file away since.
            &|| {
                keep().unwrap();
                private::replace(&place("a.pem"), b"new").unwrap();
                private::replace(&place("c.pem"), b"new").unwrap();
                fs::remove_file(gateway.path(WAITS)).unwrap();
            },
        ];
        for cut in cuts {
            let _ = fs::remove_dir(gateway.path(WAITS));
            fs::write(place("a.pem"), "of before").unwrap();
            fs::write(place("b.pem"), "of before").unwrap();
            gateway.waits_for(file);
            cut();
            let done = gateway.finish();
            assert!(done.is_none_or(|done| done.is_err()));
            let before = Some("of before".to_owned());
            assert_eq!(
                (stands("a.pem"), stands("b.pem"), stands("c.pem")),
                (before.clone(), before, None)
            );
            assert_eq!(fs::read_dir(gateway.path(FOLDER)).unwrap().count(), 2);
            assert!(!originals::are_left(gateway.0.path()));
        }
    }

    #[test]
    fn certificates_go_through_no_link() {
        let gateway = Gateway::new();
        fs::create_dir(gateway.path("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", gateway.path(FOLDER)).unwrap();
        gateway.waits_for(PLANT);
        let error = gateway.finish().unwrap().unwrap_err().to_string();
        assert!(error.contains("it is no folder of the gateway's own"), "{error}");
        assert!(!gateway.path("elsewhere/ca.pem").exists());
    }

    #[test]
    fn what_the_gateway_could_not_run_with_is_refused_before_anything_is_changed() {
        let gateway = Gateway::new();
        let wrong = gateway
            .accepted("number = 1\n[configuration]\nnod = \"x\"\n")
            .unwrap_err()
            .to_string();
        assert!(wrong.contains("unknown key `nod`"), "{wrong}");
        let others = gateway.accepted("number = 1\ndevices = [\"no such machine\"]\n");
        assert!(matches!(others, Err(ProvisioningError::Others(_))));

        let short = "number = 1\n[[administrators]]\nname = \"anna\"\npassword = \"short\"\n";
        let short = gateway.accepted(short).unwrap_err().to_string();
        assert!(short.starts_with("the file: line 3: administrators: "), "{short}");

        // A certificate that is not there is seen only at the start.
        fs::create_dir(gateway.path("provisioned")).unwrap();
        fs::write(gateway.path("provisioned/ca.pem"), "of before").unwrap();
        let before = fs::read_to_string(gateway.path("headgate.toml")).unwrap();
        let tls = "number = 1\n[[configuration.listeners]]\nname = \"tls\"\nbind = \"127.0.0.1:0\"\nkind = \"tls\"\n\
            tls = { certificate = \"/nowhere.pem\", key = \"/nowhere.key\" }\n\
            [[files]]\nname = \"ca.pem\"\ntext = \"new\"\n[[files]]\nname = \"more.pem\"\ntext = \"new\"\n";
        gateway.waits_for(tls);
        assert!(gateway.finish().unwrap().is_err());
        assert_eq!(fs::read_to_string(gateway.path("headgate.toml")).unwrap(), before);
        assert!(gateway.finish().is_none(), "it is in nobody's way");
        let ca = fs::read_to_string(gateway.path("provisioned/ca.pem")).unwrap();
        assert!(ca == "of before" && !gateway.path("provisioned/more.pem").exists());
        assert!(refused(gateway.0.path()).unwrap().contains("/nowhere.pem"));
        gateway.waits_for("number = 1\n");
        gateway.finish().unwrap().unwrap();
        assert_eq!(refused(gateway.0.path()), None, "a good one makes up for it");
    }
}
