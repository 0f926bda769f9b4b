"""Starts the processes of a cluster on this machine, as a cluster manager would."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

TIMEOUT = 1200


def free_ports(count):
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def start(count, folder, *names):
    """The workers' processes; what they say goes to a file for each."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.workers.program", str(folder), *names],
            stdout=Path(folder, f"worker-{worker}.log").open("w"),
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parents[2],
            env={
                **os.environ,
                "CUDA_VISIBLE_DEVICES": "",
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "TF_CONFIG": json.dumps(
                    {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": worker}}
                ),
            },
        )
        for worker in range(count)
    ]


def end(processes):
    """Waits for all to end by themselves; their exit codes."""
    try:
        return [process.wait(TIMEOUT) for process in processes]
    finally:
        for process in processes:
            process.kill()


def said(folder, worker):
    return Path(folder, f"worker-{worker}.log").read_text("utf-8")


def run(count, folder, *names):
    """What each worker's runs gave, by worker."""
    end(start(count, folder, *names))
    results = []
    for worker in range(count):
        lines = [line for line in said(folder, worker).splitlines() if line.startswith("RESULT")]
        assert lines, said(folder, worker)[-3000:]
        results.append(json.loads(lines[0].removeprefix("RESULT")))
    return results
