"""HTTP/2 (RFC 9113) frame by frame against a server: what a well-behaved client never sends.

    http2_frames.py ADDRESS PORT            runs every case
    http2_frames.py ADDRESS PORT drain      one request held open until the server says goodbye

Every case runs twice, each time on a new connection: as it is, and as its control, the same exchange without the fault.
One line each: "CASE fault OUTCOME" or "CASE control OUTCOME". An outcome is the status, RST_STREAM or GOAWAY with its
error code, "closed" or "silence"; ", alive" follows if the connection answers another request afterwards.
Needs hyperframe and hpack of PyPI.
"""

import os
import socket
import struct
import sys
import time

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# RFC 9113, section 7.
ERRORS = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
]
# Ends a wait for what should have come at once.
PATIENCE = 5.0
LARGEST_WINDOW = 2**31 - 1
# RFC 9113, section 6.5.2.
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 3, 4, 5
HEADERS, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 1, 4, 6, 8, 9

ADDRESS, PORT = "", 0
CASES = {}


def case(act):
    CASES[act.__name__] = act
    return act


class Peer:
    """The client's end of one connection."""

    def __init__(self, settings=None):
        self.socket = socket.create_connection((ADDRESS, PORT), PATIENCE)
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.decoder.max_allowed_table_size = 65536
        self.next_stream = 1
        self.socket.sendall(PREFACE)
        self.send(SettingsFrame(settings=settings or {}))
        first = self.read()
        assert isinstance(first, SettingsFrame), f"{first} came before SETTINGS"
        self.settings = first.settings
        self.send(SettingsFrame(flags=["ACK"]))
        self.block = b""

    def send(self, frame):
        self.socket.sendall(frame.serialize())

    def raw(self, kind, flags, stream, payload):
        """A frame as no library would build it."""
        head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream)
        self.socket.sendall(head + payload)

    def read(self):
        """The next frame; None when the server has closed."""
        head = self._exactly(9)
        if head is None:
            return None
        frame, length = Frame.parse_frame_header(memoryview(head))
        body = self._exactly(length) if length else b""
        if body is None:
            return None
        frame.parse_body(memoryview(body))
        return frame

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except ConnectionResetError:
                return None
            if not more:
                return None
            data += more
        return data

    def stream(self):
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        return stream

    def head(self, fields=(), method="GET", pseudo=None):
        if pseudo is None:
            pseudo = [(":method", method), (":scheme", "http"), (":path", "/"), (":authority", "frames.test")]
        return self.encoder.encode(list(pseudo) + list(fields), huffman=False)

    def request(self, fields=(), end=True, **head):
        stream = self.stream()
        flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
        self.send(HeadersFrame(stream, self.head(fields, **head), flags=flags))
        return stream

    def body(self, stream, data, end=True):
        self.send(DataFrame(stream, data, flags=["END_STREAM"] if end else []))

    def outcome(self, stream):
        """What becomes of a stream, then whether the connection lives on."""
        said = self.fate(stream)
        if said.startswith("RST_STREAM") or said.isdigit():
            return said + (", alive" if self.lives() else ", dead")
        return said

    def fate(self, stream):
        status = None
        try:
            while True:
                frame = self.read()
                if frame is None:
                    return "closed"
                if isinstance(frame, GoAwayFrame):
                    return "GOAWAY " + ERRORS[frame.error_code]
                status = self.status_of(frame) if self.starts(frame) else status
                if frame.stream_id != stream:
                    continue
                if isinstance(frame, RstStreamFrame) and not (status and frame.error_code == 0):
                    return "RST_STREAM " + ERRORS[frame.error_code]
                if "END_STREAM" in frame.flags:
                    return status
        except TimeoutError:
            return "silence"

    @staticmethod
    def starts(frame):
        return isinstance(frame, (HeadersFrame, ContinuationFrame))

    def status_of(self, frame):
        """Every block is decoded, whoever it is for: HPACK has one state a connection."""
        self.block += frame.data
        if "END_HEADERS" not in frame.flags:
            return None
        fields, self.block = dict(self.decoder.decode(self.block)), b""
        return fields.get(":status")

    def lives(self):
        try:
            return self.fate(self.request()) == "200"
        except OSError:
            return False


@case
def request(fault):
    """A valid request; its fault is a stream number of the server's (section 5.1.1)."""
    peer = Peer()
    if fault:
        peer.next_stream = 2
    return peer.outcome(peer.request())


@case
def stream_number_goes_back(fault):
    peer = Peer()
    peer.next_stream = 5
    peer.fate(peer.request())
    peer.next_stream = 3 if fault else 7
    return peer.outcome(peer.request())


@case
def continuation(fault):
    """A block in three parts (section 6.10); between them nothing else may come (section 4.3)."""
    peer = Peer()
    stream, block = peer.stream(), peer.head([("x-long", "y" * 300)])
    peer.send(HeadersFrame(stream, block[:20], flags=["END_STREAM"]))
    peer.send(ContinuationFrame(stream, block[20:100]))
    if fault:
        peer.send(PingFrame(0, b"01234567"))
    peer.send(ContinuationFrame(stream, block[100:], flags=["END_HEADERS"]))
    return peer.outcome(stream)


@case
def continuation_of_nothing(fault):
    peer = Peer()
    if fault:
        peer.send(ContinuationFrame(1, b"", flags=["END_HEADERS"]))
        return peer.fate(1)
    return peer.outcome(peer.request())


@case
def continuation_flood(fault):
    """CVE-2024-27316: a block that never ends."""
    peer = Peer()
    stream, block = peer.stream(), peer.head()
    peer.send(HeadersFrame(stream, block, flags=["END_STREAM"]))
    try:
        for _ in range(2000 if fault else 2):
            peer.send(ContinuationFrame(stream, peer.encoder.encode([("x-flood", "y" * 900)], huffman=False)))
        peer.send(ContinuationFrame(stream, b"", flags=["END_HEADERS"]))
    except OSError:
        pass
    return peer.outcome(stream)


@case
def settings_acknowledged(fault):
    """Section 6.5.3; the fault is a length that is no multiple of six."""
    peer = Peer()
    if fault:
        peer.raw(SETTINGS, 0, 0, b"\0" * 7)
        return peer.fate(0)
    frame = peer.read()
    while not (isinstance(frame, SettingsFrame) and "ACK" in frame.flags):
        frame = peer.read()
    return "acknowledged"


@case
def settings_on_a_stream(fault):
    peer = Peer()
    peer.raw(SETTINGS, 0, 1 if fault else 0, b"")
    return peer.fate(1) if fault else peer.outcome(peer.request())


def one_setting(name, wrong, right, fault):
    peer = Peer()
    peer.raw(SETTINGS, 0, 0, struct.pack(">HI", name, wrong if fault else right))
    return peer.outcome(peer.request())


@case
def settings_push_of_two(fault):
    return one_setting(ENABLE_PUSH, 2, 0, fault)


@case
def settings_window_too_large(fault):
    return one_setting(INITIAL_WINDOW_SIZE, 2**31, LARGEST_WINDOW, fault)


@case
def settings_frame_too_small(fault):
    return one_setting(MAX_FRAME_SIZE, 16383, 16384, fault)


@case
def ping(fault):
    """Section 6.7: the same eight bytes come back; the fault is seven."""
    peer = Peer()
    peer.raw(PING, 0, 0, b"sevenby" if fault else b"eightbyt")
    if fault:
        return peer.fate(0)
    frame = peer.read()
    while not isinstance(frame, PingFrame):
        frame = peer.read()
    return "echoed" if "ACK" in frame.flags and frame.opaque_data == b"eightbyt" else "wrong"


@case
def ping_on_a_stream(fault):
    peer = Peer()
    peer.raw(PING, 0, 1 if fault else 0, b"eightbyt")
    return peer.outcome(peer.request())


@case
def frame_too_large(fault):
    """Section 4.2: over SETTINGS_MAX_FRAME_SIZE."""
    peer = Peer()
    stream = peer.request(method="POST", end=False)
    peer.body(stream, b"x" * (peer.settings.get(MAX_FRAME_SIZE, 16384) + (1 if fault else 0)))
    return peer.outcome(stream)


@case
def window_of_the_connection_overflows(fault):
    peer = Peer()
    peer.send(WindowUpdateFrame(0, LARGEST_WINDOW if fault else LARGEST_WINDOW - 65535))
    return peer.outcome(peer.request())


@case
def window_of_a_stream_overflows(fault):
    peer = Peer()
    stream = peer.request(method="POST", end=False)
    peer.send(WindowUpdateFrame(stream, LARGEST_WINDOW if fault else 1000))
    peer.body(stream, b"") if not fault else None
    return peer.outcome(stream)


@case
def window_grows_by_nothing(fault):
    peer = Peer()
    peer.raw(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0 if fault else 1))
    return peer.outcome(peer.request())


@case
def data_on_a_closed_stream(fault):
    """Section 5.1, half-closed (remote) or closed."""
    peer = Peer()
    stream = peer.request()
    peer.fate(stream)
    if fault:
        peer.body(stream, b"late")
        return peer.fate(stream)
    return peer.outcome(peer.request())


@case
def data_on_an_idle_stream(fault):
    peer = Peer()
    if fault:
        peer.body(1, b"early")
        return peer.fate(1)
    return peer.outcome(peer.request())


@case
def header_block_too_large(fault):
    """`Limits::header_bytes`, 60 KiB."""
    peer = Peer()
    stream, block = peer.stream(), peer.head([("x-large", "y" * (64_000 if fault else 6_000))])
    parts = [block[at : at + 16384] for at in range(0, len(block), 16384)]
    peer.send(HeadersFrame(stream, parts[0], flags=["END_STREAM"] + ["END_HEADERS"] * (len(parts) == 1)))
    for part in parts[1:]:
        peer.send(ContinuationFrame(stream, part, flags=["END_HEADERS"] if part is parts[-1] else []))
    return peer.outcome(stream)


@case
def header_block_is_no_hpack(fault):
    peer = Peer()
    stream = peer.stream()
    # Index 126 of a table that is empty.
    block = peer.head() + (b"\xfe" if fault else b"")
    peer.send(HeadersFrame(stream, block, flags=["END_STREAM", "END_HEADERS"]))
    return peer.outcome(stream)


def with_field(bad, good, fault):
    peer = Peer()
    return peer.outcome(peer.request([bad if fault else good]))


@case
def upper_case_name(fault):
    return with_field(("X-Upper", "1"), ("x-upper", "1"), fault)


@case
def connection_field(fault):
    """Section 8.2.2."""
    return with_field(("connection", "x-a"), ("x-connection", "x-a"), fault)


@case
def transfer_encoding_field(fault):
    return with_field(("transfer-encoding", "chunked"), ("x-encoding", "chunked"), fault)


@case
def keep_alive_field(fault):
    return with_field(("keep-alive", "timeout=5"), ("x-keep-alive", "1"), fault)


@case
def te_other_than_trailers(fault):
    return with_field(("te", "gzip"), ("te", "trailers"), fault)


@case
def line_break_in_a_value(fault):
    """Section 8.2.1: it would be two fields in HTTP/1.1."""
    return with_field(("x-split", "a\r\nx-smuggled: 1"), ("x-split", "a"), fault)


@case
def host_other_than_the_authority(fault):
    return with_field(("host", "other.test"), ("host", "frames.test"), fault)


def with_pseudo(pseudo, fault, fields=()):
    peer = Peer()
    return peer.outcome(peer.request(pseudo=pseudo, fields=fields) if fault else peer.request())


@case
def pseudo_field_after_others(fault):
    """Section 8.3."""
    late = [(":method", "GET"), (":scheme", "http"), ("x-a", "1"), (":path", "/"), (":authority", "frames.test")]
    return with_pseudo(late, fault)


@case
def pseudo_field_twice(fault):
    twice = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":path", "/"), (":authority", "a.test")]
    return with_pseudo(twice, fault)


@case
def pseudo_field_missing(fault):
    return with_pseudo([(":method", "GET"), (":scheme", "http"), (":authority", "frames.test")], fault)


@case
def pseudo_field_unknown(fault):
    unknown = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.test"), (":what", "1")]
    return with_pseudo(unknown, fault)


@case
def pseudo_field_of_a_response(fault):
    status = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.test"), (":status", "200")]
    return with_pseudo(status, fault)


@case
def path_empty(fault):
    return with_pseudo([(":method", "GET"), (":scheme", "http"), (":path", ""), (":authority", "a.test")], fault)


def content_length(said, sent):
    peer = Peer()
    stream = peer.request([("content-length", said)], method="POST", end=False)
    peer.body(stream, sent)
    return peer.outcome(stream)


@case
def body_longer_than_said(fault):
    """Section 8.1.1."""
    return content_length("4", b"five!" if fault else b"four")


@case
def body_shorter_than_said(fault):
    return content_length("4", b"one" if fault else b"four")


@case
def content_length_without_body(fault):
    peer = Peer()
    return peer.outcome(peer.request([("content-length", "4" if fault else "0")], method="POST"))


@case
def rapid_reset(fault):
    """CVE-2023-44487: requests that are taken back at once, without end."""
    peer = Peer()
    try:
        for _ in range(10_000 if fault else 5):
            stream = peer.stream()
            block = HeadersFrame(stream, peer.head(), flags=["END_STREAM", "END_HEADERS"]).serialize()
            peer.socket.sendall(block + RstStreamFrame(stream, 8).serialize())
    except OSError:
        pass
    if not fault:
        return peer.outcome(peer.request())
    said = peer.fate(-1)
    # Whatever became of this connection, others are served.
    return said + (", others served" if Peer().lives() else ", others starve")


@case
def streams_over_the_limit(fault):
    """Section 5.1.2: `Limits::concurrent_streams`, which SETTINGS said."""
    peer = Peer(settings={INITIAL_WINDOW_SIZE: 0})
    limit = peer.settings[MAX_CONCURRENT_STREAMS]
    for _ in range(limit - (0 if fault else 1)):
        # Without a window no answer ends, so each stays open.
        peer.request()
    last = peer.request()
    if not fault:
        peer.send(WindowUpdateFrame(last, 1000))
        said = peer.fate(last)
        return f"{said} at {limit}"
    return f"{peer.fate(last)} over {limit}"


@case
def goaway_from_the_client(fault):
    """Section 6.8: what is open is answered, then the server closes; a stream number on GOAWAY is the fault."""
    peer = Peer()
    stream = peer.request()
    peer.raw(7, 0, 1 if fault else 0, struct.pack(">II", 0, 0))
    if fault:
        said = peer.fate(-1)
        return said
    said = peer.fate(stream)
    end = peer.fate(-1)
    return f"{said}, {end}"


def drain():
    """Says "held" once an answer's head is there and its body waits for a window; then what the goodbye was like."""
    peer = Peer(settings={INITIAL_WINDOW_SIZE: 0})
    stream = peer.request()
    status = None
    while status is None:
        frame = peer.read()
        status = peer.status_of(frame) if peer.starts(frame) else None
    print("held", flush=True)
    begun = time.monotonic()
    seen = []
    peer.socket.settimeout(20)
    while not any(name == "NO_ERROR" for name in seen):
        frame = peer.read()
        assert frame is not None, "closed without GOAWAY"
        if isinstance(frame, GoAwayFrame):
            seen.append(ERRORS[frame.error_code])
        if isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            peer.send(PingFrame(0, frame.opaque_data, flags=["ACK"]))
    peer.send(WindowUpdateFrame(stream, 1000))
    ended = False
    while True:
        frame = peer.read()
        if frame is None:
            break
        if isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            peer.send(PingFrame(0, frame.opaque_data, flags=["ACK"]))
        ended = ended or (frame.stream_id == stream and "END_STREAM" in frame.flags)
    took = time.monotonic() - begun
    print(f"{status} {seen[0]} {'whole' if ended else 'cut'} {'soon' if took < 10 else 'late'}", flush=True)


if __name__ == "__main__":
    ADDRESS, PORT = sys.argv[1], int(sys.argv[2])
    if sys.argv[3:] == ["drain"]:
        drain()
        sys.exit()
    only = os.environ.get("CASE")
    for name, act in CASES.items():
        for kind, fault in (("fault", True), ("control", False)):
            if only in (None, name):
                try:
                    said = act(fault)
                except (OSError, AssertionError) as error:
                    said = f"{type(error).__name__}: {error}"
                print(name, kind, said, flush=True)
