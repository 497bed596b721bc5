"""custody-local-model: a small language model behind one Unix socket, for first runs and tests without any network.

    custody-local-model --socket PATH [--exit-with-stdin]

It serves llama.cpp's own HTTP server on PATH (mode 0660; a stale socket there is replaced, any other file is refused):
OpenAI Chat Completions and Responses, Anthropic Messages (each with and without `stream`), /v1/models and /health.
When it answers, it prints one line on standard output: {"ready":true,"socket":PATH,"model":NAME,"network":"none"}.

Settings are for repeatable answers on a small machine: one thread, temperature 0 unless a request says otherwise,
an 8192-token context, one request at a time, and no reuse of an earlier prompt, so that equal requests get equal
answers whatever came before. It ends on SIGTERM or SIGINT and, with --exit-with-stdin, as soon as its standard input
closes, so it cannot outlive the process that holds the other end. It removes its socket when it ends.

It must never use the network: before the engine is loaded it moves into a network namespace of its own, without any
interface that is up, and says in its ready line when the machine does not allow that ("network":"inherited").
It must never fetch a model, keep a conversation, or write a prompt to its log.
"""

import argparse
import ctypes
import errno
import json
import os
import signal
import socket
import stat
import sys
import threading

CLONE_NEWUSER = 0x10000000  # linux/sched.h
CLONE_NEWNET = 0x40000000
SOCKET_PATH_BYTES_MAX = 107  # sockaddr_un.sun_path without its closing zero, unix(7)
MODEL_NAME = "smollm2-135m-instruct"
CONTEXT_TOKENS = 8192
DEFAULT_OUTPUT_TOKENS = 512  # for requests that name no maximum; a small model can repeat itself until the context is full
HTTP_THREADS = 8


def leave_network() -> str:
    """Moves this process into an empty network namespace; file-system sockets keep working. Needs a single thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) == 0 or libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0:
        return "none"
    reason = os.strerror(ctypes.get_errno())
    print(f"custody-local-model: keeps the machine's network: unshare: {reason}", file=sys.stderr)
    return "inherited"


def claim_socket_path(path: str) -> None:
    """Removes a dead socket at `path`. Refuses another kind of file, and a socket somebody still listens on."""
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        sys.exit(f"custody-local-model: --socket is longer than {SOCKET_PATH_BYTES_MAX} bytes: {path}")
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        sys.exit(f"custody-local-model: {path} exists and is not a socket: choose another path")
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(path) not in (errno.ECONNREFUSED, errno.ENOENT):
            sys.exit(f"custody-local-model: {path} is in use: end that server or choose another path")
    os.unlink(path)


def settings(model: str, path: str):
    """The engine's parameters. Imported here: the engine starts threads, and leave_network() must come first."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {MODEL_NAME}
    params.hostnames = [path]
    params.n_threads_http = HTTP_THREADS
    params.n_ctx = CONTEXT_TOKENS
    params.n_predict = DEFAULT_OUTPUT_TOKENS
    params.n_parallel = 1
    params.n_gpu_layers = 0
    params.fit_params = False
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.sampling.temp = 0.0
    params.sampling.seed = 1
    params.cache_prompt = False
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    params.offline = True
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = 1
    return xllamacpp, params


def main() -> None:
    parser = argparse.ArgumentParser(prog="custody-local-model", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--socket", required=True, metavar="PATH", help="Unix socket to serve on")
    parser.add_argument("--model", required=True, metavar="FILE", help="model file (GGUF); the installed command fills this in")
    parser.add_argument("--exit-with-stdin", action="store_true", help="end when standard input closes")
    args = parser.parse_args()
    path = os.path.abspath(args.socket)

    network = leave_network()
    claim_socket_path(path)

    def end(code: int) -> None:
        # The engine's threads do not end on request; the process owns nothing else that needs closing.
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        os._exit(code)

    signal.signal(signal.SIGTERM, lambda *_: end(0))
    signal.signal(signal.SIGINT, lambda *_: end(0))

    os.umask(0o117)  # the engine makes the socket: 0777 less this is 0660
    engine, params = settings(args.model, path)
    try:
        server = engine.Server(params)  # returns when the model answers
    except RuntimeError as error:
        print(f"custody-local-model: the engine did not start with {args.model}: {error}", file=sys.stderr)
        end(1)

    if args.exit_with_stdin:
        def watch_stdin() -> None:
            while os.read(0, 4096):
                pass
            end(0)

        threading.Thread(target=watch_stdin, daemon=True).start()

    print(json.dumps({"ready": True, "socket": path, "model": MODEL_NAME, "network": network}), flush=True)
    while server is not None:
        signal.pause()


if __name__ == "__main__":
    main()
