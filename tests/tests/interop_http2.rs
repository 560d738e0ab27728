//! HTTP/2 frame by frame against the gateway (`tests/interop/http2_frames.py`, PyPI's `hyperframe` and `hpack`): a breach of
//! RFC 9113 gets its error, and the same exchange without the breach is served.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::lab::MESH;
use tests::mesh::{Tables, lab_resources};
use tests::{Lab, Mesh, Process, PyPi, eventually, is_root, repository};

/// Case, outcome with the fault, outcome of the control. The h2 crate says PROTOCOL_ERROR where RFC 9113 has a narrower
/// code for a connection that ends anyway: a frame's length (section 4.2), a window's size (6.5.2), HPACK (4.3).
const CASES: [(&str, &str, &str); 39] = [
    ("request", "GOAWAY PROTOCOL_ERROR", "200, alive"),
    ("stream_number_goes_back", "GOAWAY PROTOCOL_ERROR", "200, alive"),
    ("continuation", "GOAWAY PROTOCOL_ERROR", "200, alive"),
    ("continuation_of_nothing", "GOAWAY PROTOCOL_ERROR", "200, alive"),
    ("continuation_flood", "GOAWAY ENHANCE_YOUR_CALM", "200, alive"),
    ("settings_acknowledged", "GOAWAY PROTOCOL_ERROR", "acknowledged"),
    ("settings_on_a_stream", "GOAWAY PROTOCOL_ERROR", "200, alive"),
    ("settings_push_of_two", "GOAWAY PROTOCOL_ERROR", "200, alive"),
    ("settings_window_too_large", "GOAWAY PROTOCOL_ERROR", "200, alive"),
    ("settings_frame_too_small", "GOAWAY PROTOCOL_ERROR", "200, alive"),
    ("ping", "GOAWAY PROTOCOL_ERROR", "echoed"),
    ("ping_on_a_stream", "GOAWAY PROTOCOL_ERROR", "200, alive"),
    ("frame_too_large", "closed", "200, alive"),
    ("window_of_the_connection_overflows", "GOAWAY FLOW_CONTROL_ERROR", "200, alive"),
    ("window_of_a_stream_overflows", "RST_STREAM FLOW_CONTROL_ERROR, alive", "200, alive"),
    ("window_grows_by_nothing", "GOAWAY PROTOCOL_ERROR", "200, alive"),
    ("data_on_a_closed_stream", "RST_STREAM STREAM_CLOSED", "200, alive"),
    ("data_on_an_idle_stream", "GOAWAY PROTOCOL_ERROR", "200, alive"),
    ("header_block_too_large", "431, alive", "200, alive"),
    ("header_block_is_no_hpack", "GOAWAY PROTOCOL_ERROR", "200, alive"),
    ("upper_case_name", "GOAWAY PROTOCOL_ERROR", "200, alive"),
    ("connection_field", "RST_STREAM PROTOCOL_ERROR, alive", "200, alive"),
    ("transfer_encoding_field", "RST_STREAM PROTOCOL_ERROR, alive", "200, alive"),
    ("keep_alive_field", "RST_STREAM PROTOCOL_ERROR, alive", "200, alive"),
    ("te_other_than_trailers", "RST_STREAM PROTOCOL_ERROR, alive", "200, alive"),
    ("line_break_in_a_value", "GOAWAY PROTOCOL_ERROR", "200, alive"),
    ("host_other_than_the_authority", "400, alive", "200, alive"),
    ("pseudo_field_after_others", "RST_STREAM PROTOCOL_ERROR, alive", "200, alive"),
    ("pseudo_field_twice", "RST_STREAM PROTOCOL_ERROR, alive", "200, alive"),
    ("pseudo_field_missing", "RST_STREAM PROTOCOL_ERROR, alive", "200, alive"),
    ("pseudo_field_unknown", "GOAWAY PROTOCOL_ERROR", "200, alive"),
    ("pseudo_field_of_a_response", "RST_STREAM PROTOCOL_ERROR, alive", "200, alive"),
    ("path_empty", "RST_STREAM PROTOCOL_ERROR, alive", "200, alive"),
    ("body_longer_than_said", "RST_STREAM PROTOCOL_ERROR, alive", "200, alive"),
    ("body_shorter_than_said", "RST_STREAM PROTOCOL_ERROR, alive", "200, alive"),
    ("content_length_without_body", "RST_STREAM PROTOCOL_ERROR, alive", "200, alive"),
    ("rapid_reset", "GOAWAY ENHANCE_YOUR_CALM, others served", "200, alive"),
    ("streams_over_the_limit", "RST_STREAM REFUSED_STREAM over 100", "200 at 100"),
    ("goaway_from_the_client", "GOAWAY PROTOCOL_ERROR", "200, GOAWAY NO_ERROR"),
];

/// The connection closes with the rest of the frame unread, so that a reset may overtake the GOAWAY.
const OVERTAKEN: (&str, [&str; 2]) = ("frame_too_large", ["closed", "GOAWAY FRAME_SIZE_ERROR"]);
/// Said by the driver; the drain's own deadline is longer.
const HELD_LIMIT: Duration = Duration::from_secs(10);
const DRAIN_LIMIT: Duration = Duration::from_secs(20);

/// The mesh and its web services, and the command that runs the driver; `None`: it cannot run here.
fn rig() -> Option<(Mesh, [Process; 2], String)> {
    if !is_root() {
        return None;
    }
    let pypi = PyPi::with(env!("CARGO_TARGET_TMPDIR"), &["hyperframe", "hpack"])?;
    let lab = Lab::up();
    let web = lab.start_web();
    let mesh = Mesh::start(lab, Tables::Files(&lab_resources()), "");
    let driver: PathBuf = repository().join("tests/interop/http2_frames.py");
    Some((mesh, web, format!("{} {} {MESH} 80", pypi.python().display(), driver.display())))
}

#[test]
fn every_breach_has_its_error_and_every_control_is_served() {
    let Some((mesh, _web, command)) = rig() else { return };
    let said = mesh.lab.client.run(&command);
    let mut lines = said.lines();
    for (name, fault, control) in CASES {
        let seen = lines.next().unwrap_or_default();
        let overtaken =
            OVERTAKEN.0 == name && OVERTAKEN.1.iter().any(|end| seen == format!("{name} fault {end}"));
        assert!(overtaken || seen == format!("{name} fault {fault}"), "{seen}, expected {fault}");
        assert_eq!(lines.next().unwrap_or_default(), format!("{name} control {control}"));
        assert_ne!(fault, control, "{name}: the control tells nothing");
    }
    assert_eq!(lines.next(), None, "a case without an expectation");
}

#[test]
fn a_drain_says_goaway_and_finishes_what_is_open() {
    let Some((mut mesh, _web, command)) = rig() else { return };
    let mut driver = Process::shell(&mesh.lab.client, &format!("exec {command} drain"));
    eventually("the driver holds a request", HELD_LIMIT, || driver.output().contains("held").then_some(()));
    mesh.ringwayd.signal(Signal::SIGTERM);
    assert!(driver.wait(DRAIN_LIMIT).is_some_and(|status| status.success()), "{}", driver.output());
    assert_eq!(driver.output().lines().last(), Some("200 NO_ERROR whole soon"));
    assert!(mesh.ringwayd.wait(DRAIN_LIMIT).is_some_and(|status| status.success()), "it ends by itself");
}
