//! The Headgate gateway.

mod daemon;

fn main() -> std::process::ExitCode {
    tracing_subscriber::fmt().with_env_filter("info").init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(daemon::run());
    std::process::ExitCode::SUCCESS
}
