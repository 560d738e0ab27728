//! HTTP through the gateway and inside the mesh: curl, nginx with its defaults, tables from files and from a control plane.

use std::fs;
use std::time::Duration;

use tests::lab::{MESH, MESH_V6};
use tests::mesh::{Tables, demo_resources, lab_resources};
use tests::{Lab, Mesh, Process, is_root, repository};

struct Served {
    mesh: Mesh,
    _web: [Process; 2],
}

fn serve(tables: Tables<'_>) -> Served {
    let lab = Lab::up();
    let web = lab.start_web();
    Served { mesh: Mesh::start(lab, tables, ""), _web: web }
}

/// How many of `requests` each version answered; every other answer fails the test.
fn answers(mesh: &Mesh, arguments: &str, url: &str, requests: usize) -> (usize, usize) {
    // Debian's curl 7.88 breaks its own second request on an HTTP/2 connection with prior knowledge, against nginx too.
    let said = mesh.lab.client.run(&if arguments == "--http2-prior-knowledge" {
        format!("for _ in $(seq {requests}); do curl -fsS -m 5 {arguments} '{url}' || exit 1; done")
    } else {
        format!("curl -fsS -m 40 {arguments} '{url}?[1-{requests}]'")
    });
    let count = |version: &str| said.lines().filter(|line| *line == version).count();
    let (v1, v2) = (count("web-v1"), count("web-v2"));
    assert_eq!(v1 + v2, requests, "{said}");
    (v1, v2)
}

/// Requests in the background; how they ended is looked at afterwards.
fn load(mesh: &Mesh, requests: usize) -> Process {
    let url = format!("http://{MESH}/?[1-{requests}]");
    Process::shell(
        &mesh.lab.client,
        &format!("exec curl -sS -m 55 -o /dev/null -w '%{{http_code}}\\n' '{url}'"),
    )
}

fn expect_all_good(mut load: Process, requests: usize) {
    let status = load.wait(Duration::from_secs(60)).expect("the load ends");
    let output = load.output();
    let good = output.lines().filter(|line| *line == "200").count();
    assert!(status.success() && good == requests, "{good} of {requests} were good: {}", tail(&output));
}

fn tail(text: &str) -> String {
    let bad: Vec<&str> = text.lines().filter(|line| *line != "200").collect();
    bad[..bad.len().min(20)].join(", ")
}

#[test]
fn http_1_and_http_2_reach_both_versions_by_weight() {
    if !is_root() {
        return;
    }
    let served = serve(Tables::Files(&lab_resources()));
    for (arguments, url) in [
        ("--http1.1", format!("http://{MESH}/")),
        ("--http2-prior-knowledge", format!("http://{MESH}/")),
        ("--http1.1", format!("http://[{MESH_V6}]/")),
    ] {
        let (_, v2) = answers(&served.mesh, arguments, &url, 500);
        // A tenth of 500: 50 expected, standard deviation 6.7; six of them on each side.
        assert!((10..=90).contains(&v2), "{v2} of 500 by {arguments}");
    }
}

#[test]
fn a_header_sends_a_tester_to_version_2() {
    if !is_root() {
        return;
    }
    let served = serve(Tables::Files(&lab_resources()));
    let tester = answers(&served.mesh, "-H 'X-Tester: yes'", &format!("http://{MESH}/"), 50);
    assert_eq!(tester, (0, 50));
    let other = answers(&served.mesh, "-H 'X-Tester: no'", &format!("http://{MESH}/"), 50);
    assert!(other.0 > 25);
}

#[test]
fn the_host_is_a_workload_and_reaches_a_service_by_its_address() {
    if !is_root() {
        return;
    }
    let served = serve(Tables::Files(&lab_resources()));
    for address in ["10.96.0.10", "[fd96::10]"] {
        let said = served.mesh.lab.node.run(&format!("curl -fsS -m 20 'http://{address}/?[1-20]'"));
        assert_eq!(said.lines().filter(|line| line.starts_with("web-v")).count(), 20, "{address}: {said}");
    }
    let said = served.mesh.lab.media.run("curl -fsS -m 20 'http://10.96.0.10/?[1-20]'");
    assert_eq!(said.lines().count(), 20, "from another workload: {said}");
}

#[test]
fn a_host_that_no_route_names_is_not_found() {
    if !is_root() {
        return;
    }
    let demo = lab_resources();
    let resources = demo
        .replace("  rules:\n  - name: testers", "  hostnames: [web.example]\n  rules:\n  - name: testers");
    assert_ne!(resources, demo);
    let served = serve(Tables::Files(&resources));
    let status =
        |host: &str| {
            served.mesh.lab.client.run(&format!(
                "curl -sS -m 5 -o /dev/null -w '%{{http_code}}' -H 'Host: {host}' http://{MESH}/"
            ))
        };
    assert_eq!((status("web.example").as_str(), status("other.example").as_str()), ("200", "404"));
}

#[test]
fn a_body_of_megabytes_passes_in_both_directions() {
    if !is_root() {
        return;
    }
    let lab = Lab::up();
    let page = lab.directory().join("www");
    fs::create_dir_all(&page).expect("a directory can be made");
    // nginx's workers are not root.
    for folder in [lab.directory(), page.as_path()] {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(folder, open).expect("permissions can be set");
    }
    let body: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
    fs::write(page.join("big"), &body).expect("a file can be written");
    // Passing a request on makes nginx read its whole body first.
    let settings = format!(
        "client_max_body_size 100m; client_body_buffer_size 16m; location = /big {{ root {}; }} \
         location = /up {{ proxy_pass http://127.0.0.1:8080/; }}",
        page.display()
    );
    let _web = [
        lab.start_nginx(&lab.web_v1, "web-v1", &settings),
        lab.start_nginx(&lab.web_v2, "web-v2", &settings),
    ];
    let mesh = Mesh::start(lab, Tables::Files(&lab_resources()), "");
    let big = page.join("big");
    for kind in ["--http1.1", "--http2-prior-knowledge"] {
        mesh.lab.client.run(&format!("curl {kind} -fsS -m 40 http://{MESH}/big | cmp - {}", big.display()));
        let status = format!(
            "curl {kind} -fsS -m 40 -o /dev/null -w '%{{http_code}} %{{size_upload}}' --data-binary @{} http://{MESH}/up",
            big.display()
        );
        assert_eq!(mesh.lab.client.run(&status), "200 8000000");
    }
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends_megabytes() {
    if !is_root() {
        return;
    }
    let lab = Lab::up();
    let body = lab.directory().join("body");
    fs::write(&body, vec![b'x'; 8_000_000]).expect("a file can be written");
    // `return` answers before the body is read, and nginx reads on; the other answers 413 and resets.
    let _web = [
        lab.start_nginx(&lab.web_v1, "web-v1", "client_max_body_size 100m;"),
        lab.start_nginx(&lab.web_v2, "web-v2", "client_max_body_size 1m; lingering_close off;"),
    ];
    let resources = lab_resources().replace("weight: 10", "weight: 0");
    let mesh = Mesh::start(lab, Tables::Files(&resources), "");
    for kind in ["--http1.1", "--http1.1 -H Expect:"] {
        for (tester, status) in [("no", "200"), ("yes", "413")] {
            for _ in 0..5 {
                let said = mesh.lab.client.run(&format!(
                    "curl {kind} -sS -m 20 -o /dev/null -w '%{{http_code}}' -H 'X-Tester: {tester}' \
                     --data-binary @{} http://{MESH}/",
                    body.display()
                ));
                assert_eq!(said, status, "{kind}, tester: {tester}");
            }
        }
    }
    // Debian's curl 7.88 takes RST_STREAM with NO_ERROR (RFC 9113, section 8.1) for an error, from nginx too.
    for (tester, status) in [("no", "200"), ("yes", "413")] {
        let said = mesh
            .lab
            .client
            .run(&format!("nghttp -v -H 'x-tester: {tester}' -d {} http://{MESH}/", body.display()));
        let answer = said.find(&format!(":status: {status}")).expect("an answer");
        let reset = said.find("recv RST_STREAM").expect("what is not read is not to be sent");
        assert!(answer < reset && said[reset..].contains("error_code=NO_ERROR"), "{}", &said[answer..]);
    }
    // Requests that follow on the same connection are served.
    let twice = mesh.lab.client.run(&format!(
        "curl --http1.1 -sS -m 20 -o /dev/null -w '%{{http_code}} %{{num_connects}}\\n' \
         --data-binary @{} 'http://{MESH}/?[1-3]'",
        body.display()
    ));
    assert_eq!(twice, "200 1\n200 0\n200 0\n");
    assert_eq!(mesh.metric("ringway_proxy_faults_total", &[]), 0.0, "{:?}", mesh.metrics());
}

#[test]
fn a_backend_that_closes_after_every_third_answer_fails_no_request() {
    if !is_root() {
        return;
    }
    let lab = Lab::up();
    let settings = "keepalive_requests 3;";
    let _web =
        [lab.start_nginx(&lab.web_v1, "web-v1", settings), lab.start_nginx(&lab.web_v2, "web-v2", settings)];
    let mesh = Mesh::start(lab, Tables::Files(&lab_resources()), "");
    let loads = [load(&mesh, 2000), load(&mesh, 2000), load(&mesh, 2000)];
    loads.into_iter().for_each(|load| expect_all_good(load, 2000));
}

#[test]
fn nginx_with_its_default_keepalive_fails_no_request() {
    if !is_root() {
        return;
    }
    // Debian's nginx closes a connection after 1,000 requests.
    let served = serve(Tables::Files(&lab_resources()));
    let loads = [load(&served.mesh, 4000), load(&served.mesh, 4000)];
    loads.into_iter().for_each(|load| expect_all_good(load, 4000));
}

#[test]
fn no_endpoint_that_answers_is_a_503() {
    if !is_root() {
        return;
    }
    // No web service runs at all.
    let mesh = Mesh::start(Lab::up(), Tables::Files(&lab_resources()), "");
    let status =
        mesh.lab.client.run(&format!("curl -sS -m 10 -o /dev/null -w '%{{http_code}}' http://{MESH}/"));
    assert_eq!(status, "503");
}

#[test]
fn the_weights_change_under_load_and_no_request_fails() {
    if !is_root() {
        return;
    }
    let served = serve(Tables::Control(&demo_resources()));
    let mesh = &served.mesh;
    mesh.lab
        .client
        .run(&format!("curl -fsS --retry 20 --retry-delay 1 --retry-all-errors -m 30 http://{MESH}/"));
    let shift = fs::read_to_string(repository().join("examples/demo-shift.yaml")).expect("an example");
    let back = demo_resources();
    let loads = [load(mesh, 4000), load(mesh, 4000)];
    for round in 0..6 {
        mesh.apply(if round % 2 == 0 { &shift } else { &back });
        std::thread::sleep(Duration::from_millis(150));
    }
    mesh.apply(&shift);
    loads.into_iter().for_each(|load| expect_all_good(load, 4000));
    let (v1, v2) = answers(mesh, "", &format!("http://{MESH}/"), 300);
    assert!(v2 > v1, "{v1} to {v2} after the shift");
}

#[test]
fn a_node_goes_on_without_its_control_plane_and_restarts_from_its_saved_table() {
    if !is_root() {
        return;
    }
    let mut served = serve(Tables::Control(&demo_resources()));
    served.mesh.wait_until_ready();
    served
        .mesh
        .lab
        .client
        .run(&format!("curl -fsS --retry 20 --retry-delay 1 --retry-all-errors -m 30 http://{MESH}/"));
    let running = load(&served.mesh, 3000);
    served.mesh.control.as_mut().expect("there is a control plane").kill();
    expect_all_good(running, 3000);
    served.mesh.restart();
    answers(&served.mesh, "", &format!("http://{MESH}/"), 50);
}
