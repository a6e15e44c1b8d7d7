//! Commands that root runs on the data folder of the gateway's user: docs/operations.md, "As whom". The one may have been taken over, and is not to become the other.

use headgate_tests::blackbox::{Setup, headgate};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const USER: u32 = 4_711;

/// A gateway of that user that does not run, and a folder of root's.
struct Machine {
    setup: Setup,
    roots: PathBuf,
}

impl Machine {
    /// `None`: only root can give files away.
    fn new() -> Option<Self> {
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            return None;
        }
        let setup = Setup::new();
        setup.start().stop();
        fs::set_permissions(setup.folder(), Permissions::from_mode(0o755)).unwrap();
        let roots = setup.folder().join("roots");
        fs::create_dir(&roots).unwrap();
        fs::write(roots.join("shadow"), "secret").unwrap();
        fs::set_permissions(roots.join("shadow"), Permissions::from_mode(0o600)).unwrap();
        let machine = Self { setup, roots };
        give(&machine.data(""));
        Some(machine)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.setup.folder().join("data").join(name)
    }

    fn add(&self, name: &str) -> Result<(), String> {
        let password = self.setup.folder().join("password");
        fs::write(&password, "correct horse battery\n").unwrap();
        fs::set_permissions(&password, Permissions::from_mode(0o600)).unwrap();
        let words = ["users", "add", name, "--password-file", "password"];
        self.setup.command(&words).map(drop).map_err(|(_, told)| told)
    }

    fn nothing_of_roots_has_changed(&self) {
        assert_eq!(fs::read_dir(&self.roots).unwrap().count(), 1);
        let shadow = self.roots.join("shadow");
        assert_eq!(fs::metadata(&shadow).unwrap().uid(), 0);
        assert_eq!(fs::read(shadow).unwrap(), b"secret");
    }
}

fn give(path: &Path) {
    each(path, &mut |path| lchown(path, Some(USER), Some(USER)).unwrap());
}

fn each(path: &Path, take: &mut dyn FnMut(&Path)) {
    take(path);
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            each(&entry.unwrap().path(), take);
        }
    }
}

#[test]
fn what_root_makes_in_the_folder_is_its_users() {
    let Some(machine) = Machine::new() else { return };
    machine.add("pump").unwrap();
    let setup = &machine.setup;
    let words = ["administrators", "add", "anna", "--password-file", "password"];
    setup.command(&words).unwrap();
    setup.command(&["store", "stats"]).unwrap();
    setup.command(&["export", "a.archive"]).unwrap();
    let archive = fs::metadata(setup.folder().join("a.archive")).unwrap();
    assert_eq!((archive.uid(), archive.mode() & 0o777), (0, 0o600));
    setup.command(&["restore", "a.archive", "--force"]).unwrap();
    each(&machine.data(""), &mut |path| {
        assert_eq!(
            fs::symlink_metadata(path).unwrap().uid(),
            USER,
            "{}",
            path.display()
        );
    });
    assert_eq!(setup.said(&["users", "list"]).trim(), "pump");
}

/// A restore that was interrupted is gone on with; where it goes, it says itself.
#[test]
fn what_the_user_has_prepared_is_not_done_with_roots_rights() {
    let Some(machine) = Machine::new() else { return };
    machine.setup.command(&["export", "a.archive"]).unwrap();
    let list = format!(
        r#"[{{"from": "{}", "to": "{}"}}, {{"from": "{}", "to": "{}"}}]"#,
        machine.data("evil").display(),
        machine.roots.join("preload").display(),
        machine.roots.join("shadow").display(),
        machine.data("leak").display(),
    );
    for folder in ["restored", "restoring"] {
        for command in [
            &["export", "b.archive"][..],
            &["restore", "a.archive", "--force"],
            &["store", "stats"],
        ] {
            fs::create_dir_all(machine.data(folder).join("data")).unwrap();
            fs::write(machine.data(folder).join("outside.json"), &list).unwrap();
            fs::write(machine.data("evil"), "evil").unwrap();
            give(&machine.data(""));
            let _ = machine.setup.command(command);
            machine.nothing_of_roots_has_changed();
            assert!(!machine.data("leak").exists());
            for left in ["restored", "restoring", "arriving"] {
                let _ = fs::remove_dir_all(machine.data(left));
            }
        }
    }
}

#[test]
fn links_and_settings_of_the_user_lead_root_nowhere() {
    let Some(machine) = Machine::new() else { return };
    let lock = machine.data("users.lock");
    let _ = fs::remove_file(&lock);
    symlink(machine.roots.join("nologin"), &lock).unwrap();
    lchown(&lock, Some(USER), None).unwrap();
    machine.add("pump").unwrap_err();
    machine.nothing_of_roots_has_changed();
    fs::remove_file(&lock).unwrap();

    let config = machine.setup.folder().join("headgate.toml");
    let text = fs::read_to_string(&config).unwrap();
    let users = machine.roots.join("users.json");
    fs::write(
        &config,
        format!("auth.users_file = \"{}\"\n{text}", users.display()),
    )
    .unwrap();
    lchown(&config, Some(USER), None).unwrap();
    machine.add("pump").unwrap_err();
    machine.nothing_of_roots_has_changed();
    // Nor to a third user.
    fs::create_dir(machine.setup.folder().join("alice")).unwrap();
    lchown(machine.setup.folder().join("alice"), Some(1_234), Some(1_234)).unwrap();
    let alices = machine.setup.folder().join("alice/users.json");
    let of_alice = format!("auth.users_file = \"{}\"\n{text}", alices.display());
    fs::write(&config, of_alice).unwrap();
    machine.add("pump").unwrap_err();
    assert!(!alices.exists());
    // The same in a configuration of root's is meant so.
    lchown(&config, Some(0), None).unwrap();
    machine.add("pump").unwrap();
    assert_eq!(fs::metadata(alices).unwrap().uid(), 1_234);
}

/// The data are root's, and the users somebody's. Who adds users has that one's rights; what else is changed with them is root's.
#[test]
fn a_users_file_in_anothers_folder_leads_a_restore_of_roots_nowhere() {
    let Some(machine) = Machine::new() else { return };
    machine.setup.command(&["export", "all.hga"]).unwrap();
    each(&machine.data(""), &mut |path| {
        lchown(path, Some(0), Some(0)).unwrap();
    });
    let config = machine.setup.folder().join("headgate.toml");
    let text = fs::read_to_string(&config).unwrap();
    let alice = machine.setup.folder().join("alice");
    fs::create_dir(&alice).unwrap();
    symlink(machine.roots.join("shadow"), alice.join("users.json")).unwrap();
    let of_alice = format!(
        "auth.users_file = \"{}\"\n{text}",
        alice.join("users.json").display()
    );
    fs::write(&config, of_alice).unwrap();
    let restore = || machine.setup.command(&["restore", "--force", "all.hga"]);
    lchown(&alice, Some(1_234), Some(1_234)).unwrap();
    let (_, told) = restore().unwrap_err();
    assert!(told.contains("user 1234's"), "{told}");
    machine.nothing_of_roots_has_changed();
    // A link in a folder of root's is root's own.
    lchown(&alice, Some(0), Some(0)).unwrap();
    fs::remove_file(alice.join("users.json")).unwrap();
    restore().unwrap();
}

/// A group that may write a folder of root's may be that of the gateway's user.
#[test]
fn what_others_may_write_is_nothing_for_root_to_work_in() {
    let Some(machine) = Machine::new() else { return };
    let data = machine.data("");
    lchown(&data, Some(0), Some(USER)).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o770)).unwrap();
    let told = machine.add("pump").unwrap_err();
    assert!(told.contains("others may write it"), "{told}");
    machine.nothing_of_roots_has_changed();
}

/// In a folder such as `/tmp` whoever comes first makes what is not there yet, and has it.
#[test]
fn what_is_not_there_yet_is_not_made_where_others_may_make_it() {
    let Some(machine) = Machine::new() else { return };
    let everybodys = machine.setup.folder().join("tmp");
    fs::create_dir(&everybodys).unwrap();
    fs::set_permissions(&everybodys, Permissions::from_mode(0o1777)).unwrap();
    let config = machine.setup.folder().join("headgate.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(config, text.replace("\"data\"", "\"tmp/data\"")).unwrap();
    let told = machine.add("pump").unwrap_err();
    assert!(told.contains("make it first"), "{told}");
    assert_eq!(fs::read_dir(&everybodys).unwrap().count(), 0);
    fs::create_dir(everybodys.join("data")).unwrap();
    machine.add("pump").unwrap();
}

/// A data folder that lies about may be there to hear what is typed: `administrators add` sends a password.
#[test]
fn a_strangers_folder_is_neither_asked_nor_run_unless_it_is_named() {
    let Some(machine) = Machine::new() else { return };
    let here = machine.setup.folder().join("here");
    let data = here.join("headgate-data");
    fs::create_dir_all(&data).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    fs::write(
        data.join("headgate.toml"),
        "[[listeners]]\nname = \"mqtt\"\nprotocol = \"mqtt\"\nbind = \"127.0.0.1:0\"\n",
    )
    .unwrap();
    give(&data);
    let typed = |words: &[&str], variables: &[(&str, &Path)]| {
        let mut command = Command::new(headgate());
        command.args(words).current_dir(&here).env_clear();
        command.envs(variables.iter().copied());
        command
    };
    let said = |words: &[&str], variables: &[(&str, &Path)]| {
        let output = typed(words, variables).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or(told)
    };
    for words in [&["run"][..], &["status"], &["users", "list"], &["store", "stats"]] {
        let told = said(words, &[]).unwrap_err();
        assert!(told.contains("here is user 4711's"), "{words:?}: {told}");
    }
    // Somebody has exchanged the folder in between: who answers is looked at, too.
    let run = typed(&["run"], &[])
        .uid(USER)
        .gid(USER)
        .stderr(Stdio::null())
        .spawn();
    let _gateway = Ended(run.unwrap());
    let named = [("HEADGATE__DATA_DIR", &*data)];
    let tries = (0..100).find(|_| {
        std::thread::sleep(Duration::from_millis(100));
        said(&["status"], &named).is_ok()
    });
    tries.expect("one that is named is asked");
    lchown(&data, Some(0), Some(0)).unwrap();
    let told = said(&["status"], &[]).unwrap_err();
    assert!(told.contains("user 4711 answers here"), "{told}");
    lchown(&data, Some(USER), Some(USER)).unwrap();
    let sudo = [("SUDO_UID", Path::new("4711"))];
    said(&["status"], &sudo).unwrap();
}

/// Ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
