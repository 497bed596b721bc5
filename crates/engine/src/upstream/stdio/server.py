"""A server of one tool over stdio, for tests: honest, but for what the arguments of a call ask of it. What it was asked and
what became of it stands in the file `noted` of its working folder, one JSON value a line."""

import json
import os
import signal
import subprocess
import sys
import time

MODE = os.environ.get("MODE", "honest")
VERSION = {"old": "2024-11-05"}.get(MODE, "2025-06-18")
ALONE = "2026-07-28"
held = []


def note(**what):
    with open("noted", "a") as file:
        file.write(json.dumps(what) + "\n")


def write(text):
    sys.stdout.write(text)
    sys.stdout.flush()


def say(message):
    write(json.dumps({"jsonrpc": "2.0"} | message) + "\n")


def text(words):
    return {"content": [{"type": "text", "text": words}]}


def for_ever():
    while True:
        signal.pause()


def held_open():
    """What else is open here."""
    names = [name for name in os.listdir("/proc/self/fd") if int(name) > 2]
    return [name for name in names if os.path.lexists("/proc/self/fd/" + name)]


def call(id, args):
    what = args.get("do", "answer")
    if what == "answer":
        say({"id": id, "result": text("sent")})
    elif what == "result":
        say({"id": id, "result": args["result"]})
    elif what == "text":
        say({"id": id, "result": text("x" * args["size"])})
    elif what == "error":
        say({"id": id, "error": {"code": args["code"], "message": "no"}})
    elif what == "write":
        write(args["text"])
    elif what == "empty":
        write("\n\n")
        say({"id": id, "result": text("sent")})
    elif what == "bytes":
        sys.stdout.buffer.write(b"\xff\xfe\n")
        sys.stdout.flush()
    elif what == "die":
        os._exit(3)
    elif what == "die_in_a_word":
        write('{"jsonrpc": "2.0", "id"')
        os._exit(3)
    elif what == "close":
        os.close(1)
        for_ever()
    elif what == "hang":
        for_ever()
    elif what == "forget":
        say({"method": "notifications/message", "params": {"level": "info", "data": "this takes long"}})
    elif what == "flood":
        while True:
            say({"method": "notifications/message", "params": {"level": "info", "data": "x" * 1048576}})
    elif what == "leak":
        say({"id": id, "result": text("your key is " + os.environ["KEY"])})
    elif what == "stderr":
        sys.stderr.write(("x" * 1023 + "\n") * 1024)
        sys.stderr.flush()
        say({"id": id, "result": text("sent")})
    elif what == "another":
        say({"id": 424242, "result": text("to nobody")})
        say({"id": id, "result": text("sent")})
    elif what == "ask":
        say({"id": "mine", "method": "ping"})
        say({"id": 7, "method": "sampling/createMessage", "params": {"messages": []}})
        say({"method": "notifications/tools/list_changed"})
        for _ in range(2):
            note(reply=json.loads(sys.stdin.readline()))
        say({"id": id, "result": text("sent")})
    elif what == "change":
        os.environ["TOOL"] = json.dumps(args["tool"])
        for _ in range(3 if args["says"] else 0):
            say({"method": "notifications/tools/list_changed"})
        say({"id": id, "result": text("sent")})
    elif what == "bad_id":
        say({"id": {"a": 1}, "method": "ping"})
    elif what == "hold":
        held.append((id, args["n"]))
        if len(held) == args["until"]:
            while not os.path.exists("go"):
                time.sleep(0.01)
            for one, n in reversed(held):
                say({"id": one, "result": text(str(n))})
            held.clear()
    elif what == "fork":
        # It has the server's standard output too, and does not end with it.
        child = subprocess.Popen(["/bin/sleep", "1000"])
        note(forked=child.pid)
        say({"id": id, "result": text("sent")})
    elif what == "stay":
        signal.signal(signal.SIGTERM, lambda *_: note(term=True))
        say({"id": id, "result": text("sent")})
        return True
    return False


def main():
    note(
        pid=os.getpid(),
        group=os.getpgid(0),
        folder=os.getcwd(),
        env=sorted(open("/proc/self/environ").read().split("\0")[:-1]),
        files=[os.readlink("/proc/self/fd/" + name) for name in ("0", "1", "2", *held_open())],
    )
    if MODE == "never":
        sys.exit(1)
    stays = False
    for line in iter(sys.stdin.readline, ""):
        message = json.loads(line)
        id, method, params = message.get("id"), message["method"], message.get("params", {})
        note(method=method, params=params)
        if MODE == "alone" and params.get("_meta", {}).get("io.modelcontextprotocol/protocolVersion") != ALONE:
            say({"id": id, "error": {"code": -32022, "message": "no", "data": {"supported": [ALONE]}}})
        elif method == "initialize":
            say({"id": id, "result": {"protocolVersion": VERSION, "capabilities": {}}})
        elif method == "server/discover":
            say({"id": id, "result": {"supportedVersions": [ALONE], "capabilities": {}, "resultType": "complete"}})
        elif method == "tools/list":
            say({"id": id, "result": {"tools": [json.loads(os.environ["TOOL"])]}})
        elif method == "tools/call":
            stays = call(id, params["arguments"]) or stays
    note(eof=True)
    if stays:
        for_ever()


main()
