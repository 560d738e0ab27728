//! Requests that two servers could read differently, byte by byte: refused, or made unambiguous.

use super::world::*;

const BACKEND: &str = "10.0.1.1:8080";

/// The status line for `request`, after which the connection must carry nothing more.
async fn refused(world: &World, request: &str) -> String {
    let answer = world.talk(&format!("{request}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    assert_eq!(answer.matches("HTTP/1.").count(), 1, "{request:?} gave {answer:?}");
    answer.lines().next().unwrap_or_default().to_owned()
}

fn with_backend(test: impl AsyncFnOnce(&World)) {
    run(|world| async move {
        world.mirror(BACKEND);
        world.serve(simple(BACKEND));
        test(&world).await;
    });
}

#[test]
fn bad_framing_is_refused_with_400() {
    with_backend(async |world| {
        for head in [
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5, 6",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: 0x5",
            "Content-Length: -1",
            "Content-Length:",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding : chunked",
            "Content-Length : 5",
            "X-Folded: a\r\n b",
            "X-Bad\0: a",
            "X-Bad: a\0b",
            "X Bad: a",
            ": a",
            "no colon",
        ] {
            let status = refused(world, &format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n")).await;
            assert_eq!(status, "HTTP/1.1 400 Bad Request", "{head:?}");
        }
        assert_eq!(world.pipes.connects(BACKEND), 0, "none of it reached the backend");
    });
}

#[test]
fn a_coding_other_than_chunked_is_refused_here() {
    with_backend(async |world| {
        for coding in ["gzip, chunked", "chunked, chunked"] {
            let request =
                format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n");
            let answer = world.talk(&request).await;
            assert!(answer.starts_with("HTTP/1.1 501 "), "{coding}: {answer}");
            assert!(answer.contains("x-ringway-reason: transfer_coding"), "{answer}");
        }
        let request = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(refused(world, request).await.contains(" 400 "), "HTTP/1.0 knows no transfer coding");
    });
}

/// RFC 9112, section 6.3: Transfer-Encoding overrides, Content-Length goes, the connection closes after the answer.
#[test]
fn content_length_beside_chunked_is_dropped_and_the_connection_closed() {
    with_backend(async |world| {
        for fields in [
            "Content-Length: 6\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 6",
        ] {
            let request = format!(
                "POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
            );
            let answer = world.talk(&request).await;
            assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
            assert!(answer.contains("connection: close"), "{answer}");
            assert!(!answer.contains("content-length: 6") && !answer.contains("smuggled"), "{answer}");
        }
    });
}

#[test]
fn equal_content_lengths_are_sent_on_as_one() {
    with_backend(async |world| {
        let answer = world
            .talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi")
            .await;
        assert_eq!(answer.matches("content-length: 2\n").count(), 1, "{answer}");
    });
}

#[test]
fn chunks_that_are_malformed_end_the_request_and_the_backends_connection() {
    with_backend(async |world| {
        for body in [
            "x\r\nab\r\n0\r\n\r\n",
            "2\r\nabX\r\n0\r\n\r\n",
            "ffffffffffffffffff\r\nab",
            "2 \u{7f}\r\nab\r\n0\r\n\r\n",
        ] {
            let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
            let answer = world.talk(&request).await;
            assert!(!answer.starts_with("HTTP/1.1 200"), "{body:?}: {answer}");
        }
    });
}

#[test]
fn hosts_must_be_one_and_agree_with_the_target() {
    with_backend(async |world| {
        for (request, reason) in [
            ("GET / HTTP/1.1\r\n\r\n", "bad_host"),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "bad_host"),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "bad_host"),
            ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", "bad_host"),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "bad_host"),
            ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "host_mismatch"),
        ] {
            let answer = world.talk(request).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
            assert!(answer.contains(&format!("x-ringway-reason: {reason}\r\n")), "{request:?}: {answer}");
        }
        let answer = world.talk("GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        assert!(
            answer.contains("GET /x HTTP/1.1\nhost: a.example\n"),
            "absolute form becomes origin form: {answer}"
        );
    });
}

#[test]
fn a_named_connection_option_cannot_remove_what_frames_or_names_the_request() {
    with_backend(async |world| {
        let request = "POST / HTTP/1.1\r\nHost: a\r\nConnection: host, content-length, x-forwarded-for\r\nContent-Length: 2\r\n\r\nhi";
        let answer = world.talk(request).await;
        assert!(answer.contains("content-length: 2") && answer.contains("host: a"), "{answer}");
        assert!(answer.contains("x-forwarded-for: 192.0.2.7"), "ours is added after theirs went: {answer}");
    });
}

#[test]
fn connect_and_unknown_versions_are_not_offered() {
    with_backend(async |world| {
        let answer = world.talk("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 501 "), "{answer}");
        assert_eq!(world.faults("connect"), 1.0);
        let answer = world.talk("GET / HTTP/3.0\r\nHost: a\r\n\r\n").await;
        assert!(!answer.contains(" 200 "), "{answer}");
    });
}

#[test]
fn a_backends_ambiguous_answer_is_not_passed_on() {
    run(|world| async move {
        world.raw_backend(BACKEND, |mut io| async move {
            use tokio::io::AsyncWriteExt;
            read_until(&mut io, "\r\n\r\n").await;
            io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc")
                .await
                .unwrap();
            read_quiet(&mut io).await;
        });
        world.serve(simple(BACKEND));
        let answer = world.fetch("/").await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    });
}

#[test]
fn a_backends_length_beside_its_chunks_is_not_passed_on_and_two_lengths_are_refused() {
    for (lengths, status) in
        [("Content-Length: 2\r\n", 200), ("Content-Length: 2\r\nContent-Length: 3\r\n", 502)]
    {
        run(|world| async move {
            world.raw_backend(BACKEND, move |mut io| async move {
                use tokio::io::AsyncWriteExt;
                read_until(&mut io, "\r\n\r\n").await;
                let head = format!("HTTP/1.1 200 OK\r\n{lengths}Transfer-Encoding: chunked\r\n\r\n");
                io.write_all(format!("{head}5\r\nhello\r\n0\r\n\r\n").as_bytes()).await.unwrap();
                read_quiet(&mut io).await;
            });
            world.serve(simple(BACKEND));
            let answer = world.fetch("/").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert_eq!(answer.contains("\r\n\r\n5\r\nhello\r\n"), status == 200, "{answer}");
            assert!(
                !answer.contains("content-length: 2") && !answer.contains("content-length: 3"),
                "{answer}"
            );
        });
    }
}

#[test]
fn lengths_in_an_answer_to_head_are_passed_on_as_one_or_not_at_all() {
    for (lengths, passed_on) in [
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Some("content-length: 5\r\n")),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", None),
        ("Content-Length: five\r\n", None),
        ("Content-Length: 99999999999999999999\r\n", None),
    ] {
        run(|world| async move {
            world.raw_backend(BACKEND, move |mut io| async move {
                use tokio::io::AsyncWriteExt;
                read_until(&mut io, "\r\n\r\n").await;
                io.write_all(format!("HTTP/1.1 200 OK\r\n{lengths}\r\n").as_bytes()).await.unwrap();
                read_quiet(&mut io).await;
            });
            world.serve(simple(BACKEND));
            let answer = world.talk("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 "), "{lengths:?}: {answer}");
            let found = answer.split_inclusive("\r\n").find(|line| line.starts_with("content-length"));
            if answer.starts_with("HTTP/1.1 200 ") {
                assert_eq!(found, passed_on, "{lengths:?}: {answer}");
            }
        });
    }
}
