"""The server under load, on loopback: clients at once, against the same model called in a loop; memory; hostile bodies.

python -m tests.benchmarks.serving RUN [--requests N] [--photographs DIR] [--endurance N] [--hostile N]

The loop and each number of clients are measured in turn, several times, so that what else the machine does harms all
alike: the ratios count. On a machine that is busy, the processor's time a photograph says more than the clock. Clients
are another process, as a browser is.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

from cervix_jax.images import synthetic
from cervix_jax.serving.service import batch_sizes
from tests.images.test_hostile_photographs import mutated, originals
from tests.serving.conftest import jpeg

CLIENTS = (1, 8, 64)
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--endurance", type=int, default=0)
    parser.add_argument("--hostile", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.photographs:
        files = [path.read_bytes() for path in sorted(arguments.photographs.iterdir())[:32]]
    else:
        files = [jpeg(Image.fromarray(synthetic.draw(3, "test", i).image)) for i in range(32)]
    command = [sys.executable, "-m", "cervix_jax.serve", f"--workdir={arguments.run}", "--port=0"]
    began = time.monotonic()
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        port = next(int(line.split("127.0.0.1:")[1].split("/")[0]) for line in server.stderr if "ready" in line)
        print(f"ready after {time.monotonic() - began:.1f} s")
        if arguments.requests:
            compare(arguments.run, files, port, server.pid, arguments.requests)
        if arguments.endurance:
            endure(files, port, server.pid, arguments.endurance)
        if arguments.hostile:
            attack(files[0], port, arguments.hostile)
    finally:
        server.terminate()
        server.wait()


def compare(run: Path, files: list[bytes], port: int, pid: int, requests: int) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    loop = context.Process(target=call_in_a_loop, args=(run, files, theirs), daemon=True)
    loop.start()
    ours.recv()
    alone, served = [], {clients: [] for clients in CLIENTS}
    used = dict.fromkeys((0, *CLIENTS), 0.0)
    for _ in range(ROUNDS):
        used[0] -= processor_seconds(loop.pid)
        ours.send(requests)
        alone.append(ours.recv())
        used[0] += processor_seconds(loop.pid)
        for clients in CLIENTS:
            used[clients] -= processor_seconds(pid)
            served[clients].append(asyncio.run(load(files, port, clients, requests)))
            used[clients] += processor_seconds(pid)
    loop.terminate()
    each = np.concatenate(alone)
    rate = len(each) / each.sum()
    cost = {clients: 1000 * seconds / (ROUNDS * requests) for clients, seconds in used.items()}
    print("| | p50, ms | p95 | p99 | images/s | of the loop's | processor, ms |\n|---|---|---|---|---|---|---|")
    print(f"| loop, one at a time | {quantiles(each)} | {rate:.1f} | 1 | {cost[0]:.1f} |")
    for clients, rounds in served.items():
        seconds = np.concatenate([latencies for latencies, _ in rounds])
        speed = len(seconds) / sum(total for _, total in rounds)
        name = f"{clients} client{'s' * (clients > 1)}"
        print(f"| {name} | {quantiles(seconds)} | {speed:.1f} | {speed / rate:.2f} | {cost[clients]:.1f} |")


def call_in_a_loop(run: Path, files: list[bytes], pipe) -> None:
    """In a process of its own: answers with the seconds of each of as many calls as it is asked for."""
    from cervix_jax.inference import decisions
    from cervix_jax.inference.decisions import DecisionRule
    from cervix_jax.inference.predictor import Predictor

    predictor = Predictor.restore([run], calibrated=True)
    rule = DecisionRule.fit(predictor.calibration, 0.9)

    def call(raw: bytes) -> float:
        began = time.perf_counter()
        decisions.predict(predictor, rule, [""], [predictor.read(raw, with_features=True)], batch_sizes(1)[0])
        return time.perf_counter() - began

    call(files[0])
    pipe.send("ready")
    while True:
        pipe.send([call(files[i % len(files)]) for i in range(pipe.recv())])


async def load(files: list[bytes], port: int, clients: int, requests: int) -> tuple[list[float], float]:
    """Seconds of each request, and of all, by clients that each ask as soon as they are answered."""
    numbers, seconds = iter(range(requests)), []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for i in numbers:
            began = time.perf_counter()
            status, _ = await post(reader, writer, files[i % len(files)])
            assert status == 200, status
            seconds.append(time.perf_counter() - began)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return seconds, time.perf_counter() - began


async def post(reader, writer, body: bytes) -> tuple[int, bytes]:
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


def quantiles(seconds) -> str:
    return " | ".join(f"{1000 * value:.1f}" for value in np.quantile(seconds, (0.5, 0.95, 0.99)))


def endure(files: list[bytes], port: int, pid: int, requests: int) -> None:
    """Prints the server's memory after each tenth of many requests."""
    print("| requests | resident, MB |\n|---|---|")
    for tenth in range(11):
        print(f"| {tenth * requests // 10} | {resident(pid):.0f} |", flush=True)
        if tenth < 10:
            asyncio.run(load(files, port, 8, requests // 10))


def attack(honest: bytes, port: int, number: int) -> None:
    """Sends damaged files, and after each an honest one."""
    rng, corpus, statuses = np.random.default_rng(5), list(originals()), []
    wanted = answer(port, honest)
    for i in range(number):
        statuses.append(answer(port, mutated(corpus[i % len(corpus)], rng))[0])
        status, said = answer(port, honest)
        assert (status, said["decision"]) == (wanted[0], wanted[1]["decision"])
    print(
        f"{number} hostile bodies: {json.dumps({s: statuses.count(s) for s in sorted(set(statuses))})}; "
        "each honest one after them answered as before"
    )


def answer(port: int, body: bytes) -> tuple[int, dict]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/predict", data=body)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)["photographs"][0]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["photographs"][0]


def processor_seconds(pid: int) -> float:
    """That a process has used so far, of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
