//! Every directive of mosquitto 2.0 and 2.1, the old names, and those that earlier versions had. mosquitto.conf(5)

/// What a directive belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Global,
    /// The listener before it.
    Listener,
    /// All, or with `per_listener_settings` the listener before it.
    Security,
    /// The bridge before it.
    Bridge,
    /// The plugin before it.
    PluginOption,
}

/// What is known of a directive before its value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// The import looks at it.
    Read,
    /// It has no meaning here.
    Nothing(&'static str),
    /// It cannot be taken: why, and what to do.
    Missing(&'static str, &'static str),
}

use Known::{Missing, Nothing, Read};
use Scope::{Bridge, Global, Listener, PluginOption, Security};

const ON_DISK: &str = "what is acknowledged is on the disk";
const NO_LIMIT_OF_OURS: &str = "what memory holds is bounded by bus.max_memory_bytes";
const RSMB: &str = "mosquitto does not know it either, it is of RSMB";
const KEYS: &str = "There are certificates instead: tls.certificate and tls.key.";
const PART: &str = "the bridge is a part of the gateway and logs in nowhere here";

/// All of them by their names of today.
pub(super) const DIRECTIVES: &[(&str, Scope, Known)] = &[
    // Security
    ("acl_file", Security, Read),
    ("allow_anonymous", Security, Read),
    ("allow_zero_length_clientid", Security, Read),
    (
        "auto_id_prefix",
        Security,
        Nothing("the gateway chooses the whole name of a client that has none"),
    ),
    ("password_file", Security, Read),
    ("plugin", Security, Read),
    ("plugin_load", Global, Read),
    ("plugin_use", Security, Read),
    ("global_plugin", Global, Read),
    (
        "psk_file",
        Security,
        Missing("there are no pre-shared keys for TLS", KEYS),
    ),
    ("auth_plugin_deny_special_chars", PluginOption, Read),
    // General
    ("allow_duplicate_messages", Global, Read),
    ("autosave_interval", Global, Nothing(ON_DISK)),
    ("autosave_on_changes", Global, Nothing(ON_DISK)),
    ("check_retain_source", Global, Read),
    ("clientid_prefixes", Global, Read),
    ("connection_messages", Global, Read),
    (
        "enable_control_api",
        Global,
        Nothing("there is a control socket instead, which `headgate` speaks to"),
    ),
    (
        "global_max_clients",
        Global,
        Missing(
            "sessions are not counted",
            "bus.max_memory_bytes bounds what they take.",
        ),
    ),
    ("global_max_connections", Global, Read),
    ("include_dir", Global, Read),
    ("log_dest", Global, Read),
    ("log_facility", Global, Read),
    ("log_timestamp", Global, Read),
    (
        "log_timestamp_format",
        Global,
        Nothing("each line has the time of RFC 3339"),
    ),
    ("log_type", Global, Read),
    ("max_inflight_bytes", Global, Read),
    ("max_inflight_messages", Global, Read),
    ("max_keepalive", Global, Read),
    ("max_packet_size", Global, Read),
    ("max_queued_bytes", Global, Read),
    ("max_queued_messages", Global, Read),
    ("memory_limit", Global, Read),
    ("message_size_limit", Global, Read),
    ("per_listener_settings", Global, Read),
    ("persistence", Global, Read),
    (
        "persistence_file",
        Global,
        Nothing("the store has a format of its own, in data_dir"),
    ),
    (
        "persistence_location",
        Global,
        Nothing("the store has a format of its own, in data_dir; what mosquitto.db holds is not taken over"),
    ),
    ("persistent_client_expiration", Global, Read),
    (
        "pid_file",
        Global,
        Nothing("systemd knows the process; none is written"),
    ),
    ("queue_qos0_messages", Global, Read),
    ("retain_available", Global, Read),
    ("set_tcp_nodelay", Global, Read),
    ("sys_interval", Global, Read),
    ("upgrade_outgoing_qos", Global, Read),
    (
        "user",
        Global,
        Nothing("the gateway runs as the user that starts it"),
    ),
    ("websockets_headers_size", Global, Read),
    ("websockets_log_level", Global, Nothing("log.level is for all")),
    (
        "proxy_protocol_v2_require_tls",
        Listener,
        Missing(
            "there is no such setting",
            "Let the proxy refuse plain connections.",
        ),
    ),
    ("max_topic_alias_broker", Listener, Read),
    // Listeners
    (
        "accept_protocol_versions",
        Listener,
        Missing("all versions are spoken", "Nothing here keeps one out."),
    ),
    ("bind_address", Listener, Read),
    ("bind_interface", Listener, Read),
    ("cafile", Listener, Read),
    ("capath", Listener, Read),
    ("certfile", Listener, Read),
    ("ciphers", Listener, Read),
    ("ciphers_tls1.3", Listener, Read),
    ("crlfile", Listener, Read),
    (
        "dhparamfile",
        Listener,
        Nothing("keys are agreed on by elliptic curves alone"),
    ),
    ("disable_client_cert_date_checks", Listener, Read),
    ("enable_proxy_protocol", Listener, Read),
    (
        "http_dir",
        Listener,
        Missing("no files are served", "Serve them by another program."),
    ),
    ("keyfile", Listener, Read),
    ("listener", Listener, Read),
    ("max_connections", Listener, Read),
    ("max_qos", Listener, Read),
    ("max_topic_alias", Listener, Read),
    ("mount_point", Listener, Read),
    ("port", Listener, Read),
    ("protocol", Listener, Read),
    ("psk_hint", Listener, Read),
    ("require_certificate", Listener, Read),
    ("socket_domain", Listener, Read),
    ("tls_engine", Listener, Read),
    (
        "tls_engine_kpass_sha1",
        Listener,
        Missing("there are no TLS engines", "Keys are files."),
    ),
    ("tls_keyform", Listener, Read),
    ("tls_version", Listener, Read),
    ("use_identity_as_username", Listener, Read),
    ("use_subject_as_username", Listener, Read),
    ("use_username_as_clientid", Listener, Read),
    ("websockets_origin", Listener, Read),
    // Bridges
    ("address", Bridge, Read),
    ("bridge_alpn", Bridge, Read),
    ("bridge_attempt_unsubscribe", Bridge, Read),
    ("bridge_bind_address", Bridge, Read),
    ("bridge_cafile", Bridge, Read),
    ("bridge_capath", Bridge, Read),
    ("bridge_certfile", Bridge, Read),
    (
        "bridge_ciphers",
        Bridge,
        Missing(
            "bridges offer all suites that are built in, all of them good",
            "Nothing need be done.",
        ),
    ),
    (
        "bridge_ciphers_tls1.3",
        Bridge,
        Missing(
            "bridges offer all suites that are built in, all of them good",
            "Nothing need be done.",
        ),
    ),
    ("bridge_identity", Bridge, Read),
    ("bridge_insecure", Bridge, Read),
    ("bridge_keyfile", Bridge, Read),
    ("bridge_max_packet_size", Bridge, Read),
    (
        "bridge_max_topic_alias",
        Bridge,
        Nothing("the remote says how many aliases it takes"),
    ),
    ("bridge_outgoing_retain", Bridge, Read),
    ("bridge_protocol_version", Bridge, Read),
    ("bridge_psk", Bridge, Read),
    ("bridge_receive_maximum", Bridge, Read),
    (
        "bridge_reload_type",
        Bridge,
        Nothing("`headgate reload` changes a bridge at once, and keeps its queue"),
    ),
    ("bridge_require_ocsp", Bridge, Read),
    ("bridge_session_expiry_interval", Bridge, Read),
    (
        "bridge_tcp_keepalive",
        Bridge,
        Nothing("stalled_after finds a connection that is dead"),
    ),
    (
        "bridge_tcp_user_timeout",
        Bridge,
        Nothing("stalled_after finds a connection that is dead"),
    ),
    ("bridge_tls_use_os_certs", Bridge, Read),
    ("bridge_tls_version", Bridge, Read),
    ("cleansession", Bridge, Read),
    ("connection", Bridge, Read),
    ("idle_timeout", Bridge, Read),
    ("keepalive_interval", Bridge, Read),
    ("local_cleansession", Bridge, Read),
    ("local_clientid", Bridge, Nothing(PART)),
    ("local_password", Bridge, Nothing(PART)),
    ("local_username", Bridge, Nothing(PART)),
    ("notification_topic", Bridge, Read),
    ("notifications", Bridge, Read),
    ("notifications_local_only", Bridge, Read),
    ("remote_clientid", Bridge, Read),
    ("remote_password", Bridge, Read),
    ("remote_username", Bridge, Read),
    ("restart_timeout", Bridge, Read),
    ("round_robin", Bridge, Read),
    ("start_type", Bridge, Read),
    ("threshold", Bridge, Read),
    ("topic", Bridge, Read),
    ("try_private", Bridge, Read),
    // Of earlier versions
    ("ffdc_output", Global, Nothing(RSMB)),
    ("max_log_entries", Global, Nothing(RSMB)),
    ("trace_level", Global, Nothing(RSMB)),
    ("trace_output", Global, Nothing(RSMB)),
    (
        "retry_interval",
        Global,
        Nothing("a delivery is repeated on a new connection only"),
    ),
    ("store_clean_interval", Global, Nothing(NO_LIMIT_OF_OURS)),
];

/// Names that came before those of today.
const OLD_NAMES: [(&str, &str); 7] = [
    ("addresses", "address"),
    ("auth_plugin", "plugin"),
    ("clientid", "remote_clientid"),
    ("maximum_qos", "max_qos"),
    ("password", "remote_password"),
    ("retained_persistence", "persistence"),
    ("username", "remote_username"),
];

/// The name of today.
pub(super) fn today(name: &str) -> &str {
    let old = OLD_NAMES.iter().find(|(old, _)| *old == name);
    old.map_or(name, |(_, today)| today)
}

pub(super) fn scope(today: &str) -> Scope {
    if today.starts_with("plugin_opt_") || today.starts_with("auth_opt_") {
        return PluginOption;
    }
    find(today).map_or(Global, |(scope, _)| scope)
}

pub(super) fn known(today: &str) -> Option<Known> {
    find(today).map(|(_, known)| known)
}

fn find(today: &str) -> Option<(Scope, Known)> {
    let found = DIRECTIVES.iter().find(|(name, ..)| *name == today);
    found.map(|(_, scope, known)| (*scope, *known))
}

/// Whether the value is nobody's business. Options of plugins have passwords of data bases, and a name that is written wrongly may have been meant for one.
pub(super) fn is_secret(name: &str) -> bool {
    let today = today(name);
    let secret = [
        "bridge_psk",
        "local_password",
        "remote_password",
        "tls_engine_kpass_sha1",
    ];
    let may_be = ["pas", "psk", "pwd", "secret"]
        .iter()
        .any(|word| name.contains(word));
    scope(today) == PluginOption || secret.contains(&today) || may_be && known(today).is_none()
}
