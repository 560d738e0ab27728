"""A gRPC server, or gRPC's own xDS client calling one by its mesh name. Bytes in, bytes out: no generated code.

    grpc_peer.py serve PORT ANSWER
    grpc_peer.py call TARGET COUNT        (GRPC_XDS_BOOTSTRAP names the bootstrap file)
    grpc_peer.py endure TARGET THREADS    calls until its input ends; says "serving" after the first answer

The client prints one line for each distinct answer: "COUNT ANSWER". A call that fails ends it with an error.
"""

import collections
import sys
import threading
from concurrent import futures

import grpc

METHOD = "/ringway.test.Echo/Say"


class Echo(grpc.GenericRpcHandler):
    def __init__(self, answer):
        self.answer = answer.encode()

    def service(self, details):
        if details.method != METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self.answer + b" " + request)


def serve(port, answer):
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), handlers=[Echo(answer)])
    server.add_insecure_port(f"0.0.0.0:{port}")
    server.start()
    print("serving", flush=True)
    server.wait_for_termination()


def call(target, count):
    answers = collections.Counter()
    with grpc.insecure_channel(target) as channel:
        say = channel.unary_unary(METHOD)
        for _ in range(count):
            answers[say(b"hello", timeout=10, wait_for_ready=True).decode()] += 1
    for answer, times in sorted(answers.items()):
        print(times, answer)


def endure(target, threads):
    answers = collections.Counter()
    with grpc.insecure_channel(target) as channel:
        say = channel.unary_unary(METHOD)
        say(b"hello", timeout=10, wait_for_ready=True)
        print("serving", flush=True)
        ended = threading.Event()

        def work():
            mine = collections.Counter()
            while not ended.is_set():
                mine[say(b"hello", timeout=10).decode()] += 1
            return mine

        with futures.ThreadPoolExecutor(max_workers=threads) as pool:
            working = [pool.submit(work) for _ in range(threads)]
            sys.stdin.read()
            ended.set()
        for each in working:
            answers.update(each.result())
    for answer, times in sorted(answers.items()):
        print(times, answer)


if __name__ == "__main__":
    act, subject, number = sys.argv[1], sys.argv[2], sys.argv[3]
    if act == "serve":
        serve(int(subject), number)
    elif act == "endure":
        endure(subject, int(number))
    else:
        call(subject, int(number))
