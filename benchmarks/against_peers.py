"""The embedded server against FastAPI, TorchServe, MLServer, BentoML, LitServe and Ray Serve, in one run.

    python benchmarks/against_peers.py               everything; benchmarks/results/peers.json and docs/peers.md
    python benchmarks/against_peers.py --quick       each once and briefly, to see that all of them work
    python benchmarks/against_peers.py --models digits_cnn --peers modelport fastapi

One request is one row, sent by `wrk`. One peer is up at a time: it is started in an environment of its own, must give
ONNX Runtime's answers, is warmed up, measured at every number of clients, and stopped. A round does so with all peers
for all models, in another order each time; after each peer the file is written, so that `--resume` can go on. Beside
them the same model runs in a process of its own, as the limit. docs/peers.md says what is set in each peer, and why.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peers import OURS, PEERS, environments, limit, modelport_server, workload
from peers.job import Job, check
from peers.report import write_page
from peers.workload import Workload

import modelport
from modelport._cores import usable
from modelport.bench import results, wrk
from modelport.errors import ModelportError, UsageError

MODELS = ("digits_cnn", "linear_regression", "sentiment_lstm", "resnet18", "image_classifier")
LONGER = {"image_classifier": 2}  # a run must hold many answers of each client
HEAVY = ("resnet18", "image_classifier")  # milliseconds of computing; a peer's best setup is chosen for these apart
CLIENTS = {"sentiment_lstm": (1, 8, 16, 32)}
LIMIT = "limit"  # no server, but the model in a process of its own
RESULTS = Path(__file__).with_name("results") / "peers.json"
QUICK = Path("build") / "peers_quick.json"
Row = dict[str, Any]


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="MODEL")
    parser.add_argument("--peers", nargs="+", default=[LIMIT, *PEERS], choices=[LIMIT, *PEERS])
    parser.add_argument("--clients", type=int, nargs="+", help="default: 1 8 32; 16 as well for sentiment_lstm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2, help="length of each run")
    parser.add_argument("--quick", action="store_true", help=f"1 round, 1 s, 1 and 32 clients; into {QUICK}")
    parser.add_argument("--resume", action="store_true", help="keep what the file has already, and go on")
    parser.add_argument("--prepare", action="store_true", help="make the environments, and end")
    parser.add_argument("--page", action="store_true", help="write docs/peers.md anew from the stored results, and end")
    parser.add_argument("--here", action="store_true", help="run the peers with this Python's own packages")
    parser.add_argument("--random", action="store_true", help="digits_cnn with random weights; needs no built model")
    parser.add_argument("--output", type=Path, help=f"default: {RESULTS.relative_to(RESULTS.parents[2])}")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.clients = 1, 1, options.clients or [1, 32]
    options.output = options.output or (QUICK if options.quick else RESULTS)
    if options.random:
        options.models = ["digits_cnn"]
    return options


def say(line: str) -> None:
    print(line, flush=True)


def random_repository(repository: Path) -> Path:
    """Publish the digits CNN with random weights."""
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 28)), torch.nn.Flatten(3), torch.nn.Conv2d(1, 32, 3), torch.nn.ReLU(),
        torch.nn.Conv2d(32, 32, 3), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(18432, 10), torch.nn.Softmax(1),
    )  # fmt: skip
    inputs = {"image": np.random.default_rng(0).random((4, 28, 28, 1), dtype=np.float32)}
    modelport.export(net, name="digits_cnn", repository=repository, example_inputs=inputs, output_names=["digit"])
    return repository


def pythons(options: argparse.Namespace) -> dict[str, Path]:
    """The interpreter of each peer; ours is this one."""
    own = Path(sys.executable)
    chosen = [peer for peer in options.peers if peer != LIMIT]
    return {peer: own if options.here or peer == OURS else environments.make(peer, say) for peer in chosen}


def session(peer: str, setup: str, job: Job, counts: Sequence[int], seconds: int) -> Iterator[Row]:
    """All runs of one peer with one model: a row for each. A peer that fails gives a row that says so."""
    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.mkdir()
    try:
        with PEERS[peer].start(job, setup) as serving:
            check(job, serving)
            for name, way in serving.ways.items():
                wrk.measure(serving.url, way.requests, clients=max(counts), seconds=1)
                for count in counts:
                    before_s = serving.used_s()
                    load = wrk.measure(serving.url, way.requests, clients=count, seconds=seconds)
                    cpu_us = 1e6 * (serving.used_s() - before_s) / load.requests
                    yield {"setup": setup, "server": name, **dataclasses.asdict(load), "cpu_us": cpu_us}
    except ModelportError as error:
        yield {"setup": setup, "server": ", ".join(filter(None, [PEERS[peer].TITLE, setup])), "failed": str(error)}


def setups(peer: str, job: Job, counts: Sequence[int], seconds: int, rows: list[Row]) -> Iterator[Row]:
    """How a peer is set up, `chosen` in a row of each: all ways, or the one that answers most for models of this kind.

    Ours is left out where the model was exported that way already.

    What was tried for that is in rows of its own, marked `tried`; that happens once, with the first such model.
    """
    module, heavy = PEERS[peer], job.name in HEAVY
    if not module.CHOOSE:
        left = [one for one in module.SETUPS if peer != OURS or modelport_server.differs(job, one)]
        yield from ({"chosen": setup} for setup in left)
        return
    known = [row for row in rows if row["peer"] == peer and "chosen" in row and row["heavy"] == heavy]
    if known:
        yield known[0]
        return
    rates = {}
    for setup in module.SETUPS:
        for row in session(peer, setup, job, [max(counts)], seconds):
            yield {"tried": True, **row}
            rates[setup] = row.get("requests_per_s", 0.0)
    yield {"chosen": max(rates, key=lambda setup: rates[setup]), "heavy": heavy}


def visit(peer: str, job: Job, options: argparse.Namespace, rows: list[Row]) -> Iterator[Row]:
    """One peer's turn in a round."""
    counts = options.clients or CLIENTS.get(job.name, (1, 8, 32))
    seconds = options.seconds * LONGER.get(job.name, 1)
    for row in setups(peer, job, counts, seconds, rows):
        if "chosen" not in row:
            yield row
            continue
        if "heavy" in row and row not in rows:
            yield row
        yield from session(peer, row["chosen"], job, counts, seconds)


def job_of(model: str, asked: Workload, options: argparse.Namespace, python: Path, folder: Path) -> Job:
    return Job(
        **{field.name: getattr(asked, field.name) for field in dataclasses.fields(asked)},
        repository=options.repository, name=model, python=python, folder=folder, cores=usable(),
    )  # fmt: skip


def show(row: Row) -> None:
    begin = f"  round {row['round'] + 1}  {row['model']:17} "
    if "failed" in row:
        say(f"{begin} {row['server']:38} FAILED\n{row['failed']}")
    elif "library" in row:
        say(
            f"{begin} {row['library']}, {row['threads']} threads, batch {row['batch']:2}  {row['rows_per_s']:10,.0f} /s"
        )
    elif "chosen" in row:
        say(f"{begin} {row['peer']} goes on with {row['chosen']}")
    else:
        say(f"{begin} {row['server']:38} {row['clients']:3} clients  {row['requests_per_s']:8,.0f} /s  "
            f"p50 {row['p50_ms']:8.2f} ms  {row['cpu_us']:7,.0f} us of processor")  # fmt: skip


def turns(options: argparse.Namespace) -> Iterator[tuple[int, str, str]]:
    """Round, model and peer, in the order of measuring: each round begins with another peer."""
    for number in range(options.rounds):
        first = number * len(options.peers) // options.rounds
        for model in options.models:
            for peer in [*options.peers[first:], *options.peers[:first]]:
                yield number, model, peer


def kept(options: argparse.Namespace, settings: Row) -> tuple[Row, list[Row]]:
    """Circumstances and rows of the file, for `--resume`.

    Raises:
        UsageError: The file was measured in another way.
    """
    content = json.loads(options.output.read_text(encoding="utf-8"))
    rows = content.pop("rows")
    if content["settings"] != settings:
        raise UsageError(
            f"{options.output} was measured in another way",
            why=f"its settings are {content['settings']}",
            fix="give the same options, or leave --resume out",
        )
    return content, [row for row in rows if "failed" not in row]


def measure(options: argparse.Namespace, scratch: Path) -> list[Row]:
    """Measure all that is not in the file yet; the rows of this run."""
    interpreters = pythons(options)
    settings = {"rounds": options.rounds, "seconds": options.seconds, "clients": options.clients}
    about = {p: environments.versions(python, PEERS[p].PACKAGES) for p, python in interpreters.items()}
    circumstances: Row = {**results.conditions(()), "settings": settings, "peers": about}
    rows: list[Row] = []
    if options.resume and options.output.exists():
        circumstances, rows = kept(options, settings)
    done = {(row["round"], row["model"], row["peer"]) for row in rows}
    left = [turn for turn in turns(options) if turn not in done]
    if options.random and left:
        options.repository = random_repository(scratch / "repository")
    asked = {model: workload.of(options.repository, model) for model in {model for _, model, _ in left}}
    for number, model, peer in left:
        if peer == LIMIT:
            found = limit.measure(asked[model].model, asked[model].rows, seconds=options.seconds / 4, cores=usable())
        else:
            job = job_of(model, asked[model], options, interpreters[peer], scratch / "peer")
            found = visit(peer, job, options, rows)
        for one in found:
            rows.append({"round": number, "model": model, "peer": peer, **one})
            show(rows[-1])
        results.write(options.output, circumstances=circumstances, rows=rows)
    return rows


def main() -> int:
    """1 when a peer failed."""
    options = parsed()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it ends what it started, as with Ctrl-C
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mpp-", ignore_cleanup_errors=True)))
        try:
            if options.prepare or options.page:
                say(f"written anew: {write_page()}") if options.page else pythons(options)
                return 0
            rows = measure(options, scratch)
        except ModelportError as error:
            sys.exit(str(error))
    say(f"every run: {options.output}")
    if options.output == RESULTS:
        say(f"written anew: {write_page()}")
    return int(any("failed" in row for row in rows))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped; --resume goes on")
