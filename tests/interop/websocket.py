"""A WebSocket (RFC 6455) and its conversation, by PyPI's `websockets`.

    websocket.py serve ADDRESS PORT     at /socket echoes every message; "ping me" and "close me" it does
    websocket.py talk URL               the whole conversation, with status 0 if every part of it was as it should be
"""

import hashlib
import os
import sys
import threading

import websockets.sync.client
import websockets.sync.server

MESSAGE_BYTES = 1 << 20
# One frame on the wire is a little longer; `websockets` refuses beyond 1 MiB of its own accord.
MAX_BYTES = 2 * MESSAGE_BYTES
PATIENCE = 20
# RFC 6455, section 7.4: 1000 is the normal end, 4000 and above are the application's own.
NORMAL = 1000
ASKED_FOR = 4000


def echo(socket):
    for message in socket:
        if message == "ping me":
            heard = socket.ping(b"from the server").wait(PATIENCE)
            socket.send("pong heard" if heard else "no pong")
        elif message == "close me":
            socket.close(ASKED_FOR, "as asked")
            return
        else:
            socket.send(message)


def answer_others(connection, request):
    """Health checks come over plain HTTP."""
    return None if request.path == "/socket" else connection.respond(200, "alive\n")


def serve(address, port):
    with websockets.sync.server.serve(
        echo, address, int(port), max_size=MAX_BYTES, process_request=answer_others
    ) as server:
        server.serve_forever()


def talk(url):
    for compression in [None, "deflate"]:
        with connect(url, compression) as socket:
            exchange(socket)
            hear_pongs(socket)
        expect("our close", (socket.close_code, socket.close_reason), (NORMAL, ""))
    with connect(url, None) as socket:
        socket.send("close me")
        try:
            socket.recv(PATIENCE)
        except websockets.exceptions.ConnectionClosed:
            pass
    expect("the server's close", (socket.close_code, socket.close_reason), (ASKED_FOR, "as asked"))


def connect(url, compression):
    return websockets.sync.client.connect(
        url, max_size=MAX_BYTES, compression=compression, open_timeout=PATIENCE, close_timeout=PATIENCE
    )


def exchange(socket):
    socket.send("a few words")
    expect("a text", socket.recv(PATIENCE), "a few words")
    # Bytes that nothing compresses, in one frame and in sixteen; the answer may not wait for the last of them to leave.
    message = os.urandom(MESSAGE_BYTES)
    part = MESSAGE_BYTES // 16
    for sent in [message, [message[at : at + part] for at in range(0, MESSAGE_BYTES, part)]]:
        sending = threading.Thread(target=socket.send, args=(sent,))
        sending.start()
        answer = socket.recv(PATIENCE)
        sending.join()
        expect("a long message", digest(answer), digest(message))


def hear_pongs(socket):
    expect("our ping", socket.ping(b"from the client").wait(PATIENCE), True)
    socket.send("ping me")
    expect("the server's ping", socket.recv(PATIENCE), "pong heard")


def digest(message):
    return len(message), hashlib.sha256(message).hexdigest()


def expect(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {found!r}, not {wanted!r}")


match sys.argv[1:]:
    case ["serve", address, port]:
        serve(address, port)
    case ["talk", url]:
        talk(url)
    case _:
        sys.exit(__doc__)
