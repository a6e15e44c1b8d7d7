//! The web UI in Chromium, from an empty data folder on: `tests/tools/ui` has the steps, and checks what they did from outside, as clients of MQTT.

use headgate_tests::blackbox::{
    HttpClient, Mosquitto, Setup, Transport, free_port, python_client, ui_client,
};
use std::process::Stdio;

/// docs/ui.md. A gateway that was built on a machine without Node has no UI to try.
#[test]
#[expect(
    clippy::print_stdout,
    reason = "who reads the report sees that nothing was tried"
)]
fn each_page_does_what_it_says() {
    let more = "[[lwm2m]]\nname = \"lwm2m\"\nbind = \"127.0.0.1:0\"\n\
        [[listeners]]\nname = \"http\"\nprotocol = \"http\"\nbind = \"127.0.0.1:0\"\n";
    let setup = Setup::with(more);
    let daemon = setup.start();
    let port = daemon.port_of("http");
    if HttpClient::at(port).get("/").status == 404 {
        println!("skipped: the gateway was built without its pages (`make web`)");
        return;
    }
    let remote = Mosquitto::start("");
    let mut command = ui_client();
    command
        .arg(format!("http://127.0.0.1:{port}/"))
        .arg(format!("mqtt://127.0.0.1:{}", daemon.port(Transport::Tcp)))
        .arg(format!("mqtt://127.0.0.1:{}", remote.port()))
        .arg(setup.folder().join("data/setup-code"))
        .arg(free_port().to_string());
    let lwm2m = format!("coap://127.0.0.1:{}", daemon.port_of("lwm2m"));
    command.args(["--lwm2m", &lwm2m]);
    let device = python_client("lwm2m_device.py");
    for part in std::iter::once(device.get_program()).chain(device.get_args()) {
        command.arg("--device").arg(part);
    }
    let pictures = setup.folder().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    command.arg("--pictures").arg(&pictures);
    let output = command.stdin(Stdio::null()).output().expect("Node is there");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.ends_with("done\n"),
        "{said}\n{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        setup.log()
    );
    if let Some(folder) = std::env::var_os("HEADGATE_PICTURES") {
        for picture in std::fs::read_dir(&pictures).unwrap().flatten() {
            std::fs::copy(
                picture.path(),
                std::path::Path::new(&folder).join(picture.file_name()),
            )
            .unwrap();
        }
    }
    daemon.stop();
}
