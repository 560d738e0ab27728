//! Answers before the answer (RFC 9110, section 15.2), on real AF_XDP: 101 to a WebSocket, whose whole conversation
//! follows, and 100 to a client that asks before it sends its body.

use std::fs;
use std::time::{Duration, Instant};

use tests::lab::{MESH, WEB_PORT, WEB_V1};
use tests::mesh::{Tables, lab_resources};
use tests::{Lab, Mesh, Process, PyPi, is_root, repository, wait_for_port};

/// Longer than a conversation takes here, shorter than what curl is told to wait for an interim answer.
const AT_ONCE: Duration = Duration::from_secs(20);
const BODY_BYTES: usize = 3_000_000;

/// Only testers reach version 2.
fn resources() -> String {
    lab_resources().replace("weight: 10", "weight: 0")
}

#[test]
fn a_websocket_is_upgraded_talks_both_ways_and_is_closed_by_either_side() {
    if !is_root() {
        return;
    }
    let Some(pypi) = PyPi::with(env!("CARGO_TARGET_TMPDIR"), &["websockets"]) else { return };
    let lab = Lab::up();
    let program = repository().join("tests/interop/websocket.py").display().to_string();
    let port = WEB_PORT.to_string();
    let _server = Process::start(&lab.web_v1, pypi.python(), [&*program, "serve", WEB_V1, &port]);
    wait_for_port(&lab.web_v1, WEB_V1, WEB_PORT);
    let mesh = Mesh::start(lab, Tables::Files(&resources()), "");
    let talk = format!("timeout 60 {} {program} talk ws://{MESH}/socket", pypi.python().display());
    for _ in 0..3 {
        mesh.lab.client.run(&talk);
    }
    assert_eq!(mesh.metric("ringway_proxy_faults_total", &[]), 0.0, "{:?}", mesh.metrics());
}

#[test]
fn a_client_that_expects_100_continue_sends_its_body_only_when_it_is_asked_for() {
    if !is_root() {
        return;
    }
    let lab = Lab::up();
    let body = lab.directory().join("body");
    fs::write(&body, vec![b'x'; BODY_BYTES]).expect("a file can be written");
    // Passing a request on makes nginx read its whole body first; `return` would answer unread.
    let reads = "client_max_body_size 10m; location = /up { proxy_pass http://127.0.0.1:8080/; }";
    let _web = lab.start_nginx(&lab.web_v1, "web-v1", reads);
    // Nobody listens at version 2, so its requests are refused before their bodies are wanted.
    let mesh = Mesh::start(lab, Tables::Files(&resources()), "");
    let upload = |tester: &str| {
        let begun = Instant::now();
        let said = mesh.lab.client.run(&format!(
            "curl --http1.1 -sS -v -m 50 --expect100-timeout 40 -H 'Expect: 100-continue' -H 'X-Tester: {tester}' \
             -o /dev/null -w '%{{http_code}} %{{size_upload}}' --data-binary @{} http://{MESH}/up 2>&1",
            body.display()
        ));
        assert!(begun.elapsed() < AT_ONCE, "curl gave up waiting: {said}");
        said
    };
    let taken = upload("no");
    assert!(taken.contains("< HTTP/1.1 100 Continue") && taken.ends_with("200 3000000"), "{taken}");
    let refused = upload("yes");
    assert!(!refused.contains("100 Continue") && refused.ends_with("503 0"), "{refused}");
}
