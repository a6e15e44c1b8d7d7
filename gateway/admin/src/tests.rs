use super::*;
use serde_json::json;
use std::net::Ipv4Addr;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const IDLE: Duration = Duration::from_secs(1_800);
const PASSWORD: &str = "correct horse";

struct Bench {
    folder: tempfile::TempDir,
    admin: Admin,
    start: Instant,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "where the time of the test begins")]
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let admin = Admin::load(folder.path(), IDLE).unwrap();
        Self {
            folder,
            admin,
            start: Instant::now(),
        }
    }

    fn set_up() -> (Self, Login) {
        let bench = Self::new();
        let code = bench.admin.setup_code().unwrap();
        let login = bench
            .admin
            .set_up(&code, "root", PASSWORD, HERE, bench.at(0))
            .unwrap();
        (bench, login)
    }

    fn at(&self, seconds: u64) -> Moment {
        Moment {
            steady: self.start + Duration::from_secs(seconds),
            unix: 1_000_000 + seconds,
        }
    }

    fn restarted(&self) -> Admin {
        Admin::load(self.folder.path(), IDLE).unwrap()
    }
}

/// No default password: the first administrator is made with a code that whoever has the data folder can read, once.
#[test]
fn the_code_makes_the_first_administrator_once() {
    let bench = Bench::new();
    let code = bench.admin.setup_code().unwrap();
    let written = std::fs::read_to_string(bench.admin.code_file()).unwrap();
    assert_eq!(written.trim(), code);
    assert_eq!(
        bench.restarted().setup_code().as_ref(),
        Some(&code),
        "it stays until it is used"
    );
    let wrong = bench
        .admin
        .set_up("0000-0000-0000", "root", PASSWORD, HERE, bench.at(0));
    assert!(matches!(wrong, Err(AdminError::Wrong(_))));
    let short = bench.admin.set_up(&code, "root", "too short", HERE, bench.at(0));
    assert!(matches!(short, Err(AdminError::Password)));
    let typed = format!(" {} ", code.to_lowercase().replace('-', " "));
    bench
        .admin
        .set_up(&typed, "root", PASSWORD, HERE, bench.at(0))
        .unwrap();
    assert!(!bench.admin.code_file().exists());
    let again = bench.admin.set_up(&code, "eve", PASSWORD, HERE, bench.at(0));
    assert!(matches!(again, Err(AdminError::SetUp)));
    let restarted = bench.restarted();
    assert_eq!(restarted.setup_code(), None);
    assert!(restarted.log_in("root", PASSWORD, HERE, bench.at(1)).is_ok());
}

#[test]
fn the_code_cannot_be_guessed() {
    let bench = Bench::new();
    let code = bench.admin.setup_code().unwrap();
    for _ in 0..5 {
        let wrong = bench
            .admin
            .set_up("0000-0000-0000", "root", PASSWORD, THERE, bench.at(0));
        assert!(matches!(wrong, Err(AdminError::Wrong(_))));
    }
    let locked = bench.admin.set_up(&code, "root", PASSWORD, THERE, bench.at(0));
    assert!(matches!(locked, Err(AdminError::Locked(_))));
    assert!(
        bench
            .admin
            .set_up(&code, "root", PASSWORD, HERE, bench.at(0))
            .is_ok(),
        "others may"
    );
}

#[test]
fn a_session_ends_idle_and_after_half_a_day() {
    let (bench, login) = Bench::set_up();
    let (who, csrf) = bench.admin.session(&login.token, true, bench.at(1_799)).unwrap();
    assert_eq!((who.role, &*who.name), (Role::Administrator, "root"));
    assert_eq!(csrf, login.csrf);
    assert!(
        bench
            .admin
            .session(&login.token, true, bench.at(1_799 + 1_800))
            .is_none()
    );
    let login = bench.admin.log_in("root", PASSWORD, HERE, bench.at(0)).unwrap();
    assert!(
        bench
            .admin
            .session(&login.token, false, bench.at(1_000))
            .is_some()
    );
    assert!(
        bench.admin.session(&login.token, true, bench.at(1_800)).is_none(),
        "a look is no use"
    );
    let login = bench.admin.log_in("root", PASSWORD, HERE, bench.at(0)).unwrap();
    let busy = (0..12 * 3_600)
        .step_by(1_000)
        .all(|at| bench.admin.session(&login.token, true, bench.at(at)).is_some());
    assert!(busy);
    assert!(
        bench
            .admin
            .session(&login.token, true, bench.at(12 * 3_600))
            .is_none()
    );
    assert!(
        bench
            .restarted()
            .session(&login.token, true, bench.at(1))
            .is_none()
    );
}

#[test]
fn who_has_too_many_sessions_loses_the_idlest() {
    let (bench, first) = Bench::set_up();
    for n in 0..SESSIONS_OF_ONE as u64 {
        bench
            .admin
            .log_in("root", PASSWORD, HERE, bench.at(1 + n))
            .unwrap();
    }
    assert!(bench.admin.session(&first.token, true, bench.at(20)).is_none());
}

#[test]
fn wrong_passwords_lock_the_name_for_this_address() {
    let (bench, _) = Bench::set_up();
    let fails = |at| {
        bench
            .admin
            .log_in("root", "wrong wrong wrong", THERE, bench.at(at))
    };
    for _ in 0..5 {
        assert!(matches!(fails(0), Err(AdminError::Wrong(_))));
    }
    let locked = bench.admin.log_in("root", PASSWORD, THERE, bench.at(1));
    assert!(matches!(locked, Err(AdminError::Locked(Locked(left))) if left <= Duration::from_secs(30)));
    assert!(
        bench.admin.log_in("root", PASSWORD, HERE, bench.at(1)).is_ok(),
        "elsewhere it is open"
    );
    assert!(matches!(fails(31), Err(AdminError::Wrong(_))));
    let locked = bench.admin.log_in("root", PASSWORD, THERE, bench.at(32));
    assert!(matches!(locked, Err(AdminError::Locked(Locked(left))) if left > Duration::from_secs(30)));
    assert!(bench.admin.log_in("root", PASSWORD, THERE, bench.at(200)).is_ok());
}

#[test]
fn an_address_that_tries_many_names_is_locked() {
    let (bench, _) = Bench::set_up();
    for n in 0..20 {
        let wrong = bench
            .admin
            .log_in(&format!("name{n}"), PASSWORD, THERE, bench.at(0));
        assert!(matches!(wrong, Err(AdminError::Wrong(_))));
    }
    let locked = bench.admin.log_in("root", PASSWORD, THERE, bench.at(0));
    assert!(matches!(locked, Err(AdminError::Locked(_))));
}

#[test]
fn somebody_must_be_able_to_run_the_gateway() {
    let (bench, login) = Bench::set_up();
    let admin = &bench.admin;
    assert!(matches!(admin.remove("root"), Err(AdminError::Last(_))));
    assert!(matches!(
        admin.alter("root", None, Some(Role::Viewer)),
        Err(AdminError::Last(_))
    ));
    admin
        .add("other", PASSWORD, Role::Administrator, bench.at(0))
        .unwrap();
    assert!(matches!(
        admin.add("other", PASSWORD, Role::Viewer, bench.at(0)),
        Err(AdminError::Exists(_))
    ));
    assert!(admin.session(&login.token, true, bench.at(1)).is_some());
    admin.remove("root").unwrap();
    assert!(
        admin.session(&login.token, true, bench.at(1)).is_none(),
        "its sessions ended"
    );
    for name in [
        "",
        "key scada",
        "local user 0",
        "\u{202e}toor",
        "a:b",
        "a\u{1}",
        &"x".repeat(65),
    ] {
        assert!(
            matches!(
                admin.add(name, PASSWORD, Role::Viewer, bench.at(0)),
                Err(AdminError::Name)
            ),
            "{name}"
        );
    }
}

#[test]
fn a_key_has_a_role_and_an_end() {
    let (bench, _) = Bench::set_up();
    let lasts = Some(Duration::from_secs(60));
    let new = bench
        .admin
        .add_key("scada", Role::Operator, lasts, bench.at(0))
        .unwrap();
    let id = new.key.id.clone();
    let key = bench.admin.key(&id, &new.secret, bench.at(59)).unwrap();
    assert_eq!((key.role, &*key.name), (Role::Operator, "key scada"));
    assert!(bench.admin.key(&id, &new.secret, bench.at(60)).is_none());
    assert!(bench.admin.key(&id, "wrong", bench.at(0)).is_none());
    let file = std::fs::read_to_string(bench.folder.path().join(FILE)).unwrap();
    assert!(!file.contains(&new.secret), "the secret is not kept");
    assert!(bench.restarted().key(&id, &new.secret, bench.at(1)).is_some());
    bench.admin.remove_key(&id).unwrap();
    assert!(bench.admin.key(&id, &new.secret, bench.at(1)).is_none());
    assert!(matches!(
        bench.admin.remove_key(&id),
        Err(AdminError::UnknownKey(_))
    ));
}

fn entry(text: &str) -> AuditEntry {
    AuditEntry {
        number: 0,
        at: 1,
        who: "root".into(),
        from: "127.0.0.1".into(),
        request: "POST /x".into(),
        action: text.into(),
        status: Some(200),
        before: None,
        after: Some(json!({ "a": 1 })),
    }
}

/// A change that has begun and ended.
fn change(log: &AuditLog, role: Role, what: AuditEntry) -> u64 {
    let begun = AuditEntry {
        status: None,
        after: None,
        ..what.clone()
    };
    let (number, written) = log.begin(role, begun);
    written.unwrap();
    log.end(role, AuditEntry { number, ..what }).unwrap();
    number
}

fn numbers(log: &AuditLog) -> Vec<u64> {
    log.page(None, 100_000)
        .rows
        .iter()
        .map(|row| row.number)
        .collect()
}

#[test]
fn the_audit_log_is_paged_and_bounded_and_outlives_a_cut() {
    const ADMIN: Role = Role::Administrator;
    let folder = tempfile::tempdir().unwrap();
    let log = AuditLog::open(folder.path());
    for n in 1..=5 {
        change(&log, ADMIN, entry(&n.to_string()));
    }
    let page = log.page(None, 2);
    assert_eq!(page.rows.iter().map(|row| row.number).collect::<Vec<_>>(), [5, 4]);
    let page = log.page(page.next, 10);
    assert_eq!(
        page.rows.iter().map(|row| row.number).collect::<Vec<_>>(),
        [3, 2, 1]
    );
    assert_eq!(page.next, None);
    drop(log);

    let path = folder.path().join("audit.log");
    let text = std::fs::read(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 5]).unwrap();
    let log = AuditLog::open(folder.path());
    change(&log, ADMIN, entry("after the cut"));
    let rows = log.page(None, 10).rows;
    assert_eq!((&*rows[0].action, rows.len()), ("after the cut", 5));

    let long = "x".repeat(15 << 10);
    for role in [ADMIN, Role::Operator] {
        for _ in 0..400 {
            change(&log, role, entry(&long));
        }
    }
    let bytes: u64 = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes < 9 << 20, "{bytes}");
    assert_eq!(log.page(None, 1).rows[0].action, long);
    let after = Some("y".repeat(20 << 10).into());
    change(&log, ADMIN, AuditEntry { after, ..entry("z") });
    assert_eq!(
        log.page(None, 1).rows[0].after,
        Some("too long to be kept".into())
    );
}

/// What a `kill -9` interrupts has an entry; what came of it is not known.
#[test]
fn a_change_that_began_is_an_entry_and_becomes_what_it_was_when_it_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let log = AuditLog::open(folder.path());
    let begin = |text: &str| {
        let begun = AuditEntry {
            status: None,
            ..entry(text)
        };
        log.begin(Role::Operator, begun).0
    };
    let (first, second, third) = (begin("1"), begin("2"), begin("3"));
    let end = |number, text: &str| {
        let ended = AuditEntry {
            number,
            ..entry(text)
        };
        log.end(Role::Operator, ended).unwrap();
    };
    let rows = || {
        let rows = AuditLog::open(folder.path()).page(None, 10).rows;
        rows.iter()
            .map(|row| (row.number, row.status))
            .collect::<Vec<_>>()
    };
    end(second, "2");
    end(first, "1");
    assert_eq!(log.page(None, 10).rows[0].status, None, "it is under way");
    assert_eq!(rows(), [(third, None), (second, Some(200)), (first, Some(200))]);
    // It is one at the next start, too, and its number is given to no other.
    let log = AuditLog::open(folder.path());
    assert_eq!(change(&log, Role::Operator, entry("4")), third + 1);
    assert_eq!(rows()[1], (third, None));
}

/// Refused changes, and those of who may do less, push nothing out; whatever stands in the files.
#[test]
fn nobody_pushes_out_or_hides_what_administrators_did() {
    let folder = tempfile::tempdir().unwrap();
    let log = AuditLog::open(folder.path());
    let first = change(&log, Role::Administrator, entry("add an administrator"));
    for _ in 0..2_000 {
        let (number, _) = log.begin(Role::Viewer, entry(&"x".repeat(2_000)));
        log.forget(number);
    }
    assert_eq!(numbers(&log), [first]);
    for _ in 0..400 {
        change(&log, Role::Operator, entry(&"x".repeat(15 << 10)));
    }
    assert!(numbers(&log).contains(&first));
    // The file of those that are under way does not grow either.
    let (under_way, _) = log.begin(Role::Operator, entry("slow"));
    for _ in 0..2_000 {
        let (number, _) = log.begin(Role::Viewer, entry(&"x".repeat(2_000)));
        log.forget(number);
    }
    let begun = std::fs::metadata(folder.path().join("audit.begun")).unwrap();
    assert!(begun.len() < 300 << 10, "{}", begun.len());

    // A number that cannot be, by whoever brought the file.
    let mut forged = entry("forged");
    forged.number = u64::MAX;
    let path = folder.path().join("audit.log");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text += &serde_json::to_string(&forged).unwrap();
    std::fs::write(&path, text).unwrap();
    let log = AuditLog::open(folder.path());
    assert!(numbers(&log).contains(&under_way));
    assert!(change(&log, Role::Administrator, entry("goes on")) > under_way);
    assert!(!numbers(&log).contains(&u64::MAX));
}

/// A program that shows its password with each request is not made to wait each time; nor does it come in when the password is another one, or later.
#[test]
fn a_right_password_is_remembered_for_minutes_and_not_beyond_a_change() {
    let (bench, _) = Bench::set_up();
    let known = |password, seconds| bench.admin.remembered("root", password, HERE, bench.at(seconds));
    let is_known = |password, seconds| known(password, seconds).unwrap().is_some();
    assert!(!is_known(PASSWORD, 1), "it is checked first");
    let checked = bench
        .admin
        .check_and_remember("root", PASSWORD, HERE, bench.at(1))
        .unwrap();
    assert_eq!(checked.role, Role::Administrator);
    assert!(is_known(PASSWORD, 300));
    assert!(!is_known("correct horses", 2));
    assert!(!is_known(PASSWORD, 301), "not for ever");
    let again = || {
        bench
            .admin
            .check_and_remember("root", PASSWORD, HERE, bench.at(2))
            .unwrap()
    };
    again();
    bench
        .admin
        .add("anna", PASSWORD, Role::Viewer, bench.at(2))
        .unwrap();
    assert!(!is_known(PASSWORD, 3), "administrators have changed");
    again();
    for _ in 0..5 {
        let wrong = bench
            .admin
            .check_and_remember("root", "wrong password", HERE, bench.at(3));
        assert!(matches!(wrong, Err(AdminError::Wrong(_))));
    }
    assert!(
        matches!(known(PASSWORD, 4), Err(AdminError::Locked(_))),
        "who is locked out stays out"
    );
}

/// A machine may fall back to this version: nobody is lost by that, nobody is let in who has more to show by now, and the code of a new gateway opens nothing.
#[test]
fn administrators_of_a_later_version_are_kept_and_not_let_in() {
    let (bench, _) = Bench::set_up();
    bench
        .admin
        .add("ann", PASSWORD, Role::Administrator, bench.at(1))
        .unwrap();
    let path = bench.admin.file();
    let read = || -> serde_json::Value { serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap() };
    let mut text = read();
    text["administrators"]["root"]["second_factor"] = "totp".into();
    text["tokens"] = json!({ "7": "of a later version" });
    std::fs::write(&path, text.to_string()).unwrap();
    let admin = bench.restarted();
    assert_eq!(admin.of_later_version(), 1);
    let names: Vec<String> = admin
        .administrators()
        .into_iter()
        .map(|known| known.name)
        .collect();
    assert_eq!(names, ["ann"]);
    admin.add("eve", PASSWORD, Role::Viewer, bench.at(2)).unwrap();
    let now = read();
    assert_eq!(now["administrators"]["root"], text["administrators"]["root"]);
    assert_eq!(now["tokens"], text["tokens"]);
    assert!(now["administrators"].get("eve").is_some());

    // All of them are of a later version: it is no new gateway.
    text["administrators"]["ann"]["second_factor"] = "totp".into();
    std::fs::write(&path, text.to_string()).unwrap();
    assert_eq!(bench.restarted().setup_code(), None);
}

/// Whoever damages the file shall not take the gateway with the code of a new one.
#[test]
fn a_file_without_administrators_makes_no_new_gateway() {
    let (bench, _) = Bench::set_up();
    let path = bench.admin.file();
    for text in [
        "half a fi",
        "",
        "[]",
        "null",
        "{}",
        r#"{"v":9}"#,
        r#"{"keys":{}}"#,
        r#"{"administrators":[]}"#,
    ] {
        std::fs::write(&path, text).unwrap();
        let refused = Admin::load(bench.folder.path(), IDLE).err();
        assert!(matches!(refused, Some(AdminError::File { .. })), "{text}");
        assert!(!bench.admin.code_file().exists(), "{text}");
    }
}
