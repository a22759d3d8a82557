"""Both clients against a real server, over HTTP and gRPC."""

from __future__ import annotations

import asyncio
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from modelport.client import AsyncClient, Client
from modelport.errors import (
    ClientError,
    DeadlineError,
    ModelNotFoundError,
    RemoteError,
    RequestError,
    VersionNotFoundError,
)
from modelport.server import EmbeddedServer

ECHO = """
return [pb_utils.InferenceResponse([
    pb_utils.Tensor("out" + t.name()[2:], t.as_numpy()) for t in request.inputs()
]) for request in requests]
"""
SLEEP = """
answers = []
for request in requests:
    seconds = pb_utils.get_input_tensor_by_name(request, "seconds").as_numpy()
    time.sleep(float(seconds.max()))
    answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("slept", seconds)]))
return answers
"""
RAISE = 'raise ValueError("the model is broken")'
SCORES = """
return [pb_utils.InferenceResponse([
    pb_utils.Tensor("scores", pb_utils.get_input_tensor_by_name(request, "x").as_numpy())
]) for request in requests]
"""
ALL_TYPES = {
    "bool": ("BOOL", [True, False]),
    "uint8": ("UINT8", [0, 255]),
    "int64": ("INT64", [-(2**60), 2**60]),
    "half": ("FP16", [0.5, -65504.0]),
    "single": ("FP32", [0.1, float("inf")]),
    "double": ("FP64", [0.1, 1e300]),
    "text": ("STRING", ["ä", ""]),
}


@pytest.fixture(scope="module")
def server(zoo):
    tensors = " ".join(f"in_{name}:{dtype}[2]" for name, (dtype, _) in ALL_TYPES.items())
    zoo.python("types", tensors, tensors.replace("in_", "out_"), ECHO)
    zoo.python("echo", "in_x:FP32[2]", "out_x:FP32[2]", ECHO, batch=4)
    zoo.python("fixed", "in_x:INT64[-1,2]", "out_x:INT64[-1,2]", ECHO, batch=0)
    zoo.python("sleepy", "seconds:FP32[1]", "slept:FP32[1]", SLEEP, extra="instance_group { kind: KIND_CPU count: 4 }")
    zoo.python("nap", "seconds:FP32[1]", "slept:FP32[1]", SLEEP)
    zoo.python("broken", "x:FP32[1]", "y:FP32[1]", RAISE)
    zoo.python("labelled", "x:FP32[3]", 'scores:FP32[3]{label_filename: "labels.txt"}', SCORES)
    (zoo.root / "labelled" / "labels.txt").write_text("cat\ndog\nbird: small\n")
    with EmbeddedServer(zoo.root, http_port=0, grpc_port=0, metrics_port=0) as started:
        yield started


@pytest.fixture
def url(server, protocol):
    return server.http_url if protocol == "http" else server.grpc_url


@pytest.mark.alone
def test_a_deadline_ends_the_call_in_time_and_the_next_call_works(url, server):
    """G1, sync: a call of 5 s with a deadline of 0.1 s ends in 0.1 to 0.3 s, with the same client still good."""
    with Client(url) as client:
        client.spec("sleepy")
        begin = time.monotonic()
        with pytest.raises(DeadlineError) as caught:
            client.infer("sleepy", timeout_s=0.1, seconds=5.0)
        assert 0.1 <= time.monotonic() - begin <= 0.3
        assert caught.value.timeout_s == 0.1
        assert client.infer("echo", in_x=[1.0, 2.0])["out_x"].tolist() == [1.0, 2.0]
    assert server.running


@pytest.mark.alone
def test_a_deadline_ends_an_asyncio_call_in_time_and_the_next_call_works(url, server):
    """G1, asyncio."""

    async def main() -> None:
        async with AsyncClient(url) as client:
            await client.spec("sleepy")
            begin = time.monotonic()
            with pytest.raises(DeadlineError):
                await client.infer("sleepy", timeout_s=0.1, seconds=5.0)
            assert 0.1 <= time.monotonic() - begin <= 0.3
            assert (await client.infer("echo", in_x=[1.0, 2.0]))["out_x"].tolist() == [1.0, 2.0]

    asyncio.run(main())
    assert server.running


def test_every_element_type_arrives_and_comes_back(ask, url):
    """Also FP16, which JSON cannot carry, and text in and out as str."""
    answers = ask(url, "infer", "types", inputs={f"in_{name}": value for name, (_, value) in ALL_TYPES.items()})
    for name, (_, value) in ALL_TYPES.items():
        array = answers[f"out_{name}"]
        assert array.shape == (2,)
        assert array.tolist() == np.asarray(value, dtype=array.dtype).tolist(), name


def test_one_sample_and_a_batch(ask, url):
    """The batch axis is added and taken away for one sample, and left alone for a batch."""
    one = ask(url, "infer", "echo", in_x=np.array([1, 2], np.float32))
    assert one["out_x"].tolist() == [1, 2]
    batch = ask(url, "infer", "echo", in_x=np.arange(8, dtype=np.float32).reshape(4, 2))
    assert batch["out_x"].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_bytes_that_are_no_text_come_back_as_bytes(ask, url):
    values = {f"in_{name}": value for name, (_, value) in ALL_TYPES.items()} | {"in_text": [b"\xff\x00", "x"]}
    assert ask(url, "infer", "types", inputs=values, outputs=["out_text"])["out_text"].tolist() == [b"\xff\x00", "x"]


def test_a_model_without_a_batch_axis(ask, url):
    """Nothing is added where the model has no batch axis, although its first dimension varies."""
    assert ask(url, "infer", "fixed", in_x=[[1, 2], [3, 4], [5, 6]])["out_x"].tolist() == [[1, 2], [3, 4], [5, 6]]


def test_classification_gives_scores_positions_and_labels(ask, url):
    ((best, second),) = ask(url, "classify", "labelled", 2, x=[0.1, 0.25, 0.75])
    assert (best.score, best.index, best.label) == (0.75, 2, "bird: small")
    assert (second.score, second.index, second.label) == (0.25, 1, "dog")
    rows = ask(url, "classify", "labelled", 1, x=[[1, 0, 0], [0, 1, 0]])
    assert [[r.label for r in row] for row in rows] == [["cat"], ["dog"]]


def test_the_spec_tells_what_a_model_takes(ask, url):
    spec = ask(url, "spec", "echo")
    assert (spec.name, spec.batched) == ("echo", True)
    assert [str(t) for t in (*spec.inputs, *spec.outputs)] == ["in_x: FP32[2]", "out_x: FP32[2]"]


def test_readiness_of_server_models_and_versions(ask, url):
    questions = [(), ("echo",), ("echo", 1), ("echo", 2), ("nothing",)]
    assert [ask(url, "ready", *q) for q in questions] == [True, True, True, False, False]


def test_what_the_server_refuses_has_an_error_of_its_own(ask, url):
    with pytest.raises(ModelNotFoundError) as missing:
        ask(url, "infer", "nothing", x=1.0)
    assert missing.value.model == "nothing"
    with pytest.raises(VersionNotFoundError) as old:
        ask(url, "infer", "echo", version=7, in_x=[1.0, 2.0])
    assert (old.value.model, old.value.version) == ("echo", 7)
    with pytest.raises(RequestError) as large:
        ask(url, "infer", "echo", in_x=np.zeros((5, 2), np.float32))
    assert large.value.status == 400 and "4" in large.value.why
    with pytest.raises(RemoteError) as broken:
        ask(url, "infer", "broken", x=1.0)
    assert broken.value.status == 500 and "the model is broken" in broken.value.why


def test_wrong_inputs_are_found_before_anything_is_sent(ask, url, server):
    before = _requests(server, "echo")
    for given, part in (
        ({}, "'in_x' is missing"),
        ({"in_x": [1.0, 2.0], "z": 1}, "no input 'z'"),
        ({"in_x": np.zeros(2)}, "float64"),
        ({"in_x": np.zeros(3, np.float32)}, "[3]"),
    ):
        with pytest.raises(RequestError, match="echo") as caught:
            ask(url, "infer", "echo", inputs=given)
        assert part in str(caught.value)
    assert _requests(server, "echo") == before


def test_many_late_calls_do_not_harm_the_server(url, server):
    """Deadlines that fall around the moment of the answer: 2.51.0 would crash or hang if these calls were cancelled."""
    pid, outcomes = server.pid, []
    with Client(url) as client:
        client.spec("echo")

        def work(seed: int) -> None:
            random = np.random.default_rng(seed)
            for _ in range(300):
                try:
                    client.infer("echo", timeout_s=float(random.uniform(0.0005, 0.006)), in_x=[1.0, 2.0])
                    outcomes.append("answered")
                except DeadlineError:
                    outcomes.append("late")

        _together(8, work)
    assert outcomes.count("late") > 50 and len(outcomes) == 8 * 300
    with Client(url) as client:
        assert client.infer("echo", timeout_s=10, in_x=[1.0, 2.0])["out_x"].tolist() == [1.0, 2.0]
    assert server.running and server.pid == pid


def test_a_cancelled_task_leaves_client_and_server_usable(url, server):
    async def main() -> None:
        async with AsyncClient(url) as client:
            task = asyncio.create_task(client.infer("nap", seconds=0.5))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await client.infer("echo", in_x=[1.0, 2.0]))["out_x"].tolist() == [1.0, 2.0]

    asyncio.run(main())
    assert server.running


def test_eight_threads_share_one_client_and_get_their_own_answers(url):
    with Client(url) as client:
        wrong = []

        def work(thread: int) -> None:
            for step in range(50):
                value = float(thread * 1000 + step)
                answer = client.infer("echo", in_x=[value, -value])["out_x"].tolist()
                if answer != [value, -value]:
                    wrong.append((value, answer))

        _together(8, work)
    assert wrong == []


def test_eight_tasks_share_one_client_and_get_their_own_answers(url):
    async def main() -> list[bool]:
        async with AsyncClient(url, concurrency=3) as client:

            async def work(task: int) -> bool:
                answers = [await client.infer("echo", in_x=[task, step]) for step in range(30)]
                return [a["out_x"].tolist() for a in answers] == [[task, step] for step in range(30)]

            return await asyncio.gather(*(work(task) for task in range(8)))

    assert asyncio.run(main()) == [True] * 8


@pytest.mark.alone
def test_places_are_limited_and_waiting_for_one_counts_against_the_deadline(url):
    with Client(url, concurrency=1) as client:
        client.spec("nap")
        client.spec("echo")
        slow = threading.Thread(target=lambda: client.infer("nap", seconds=0.5))
        slow.start()
        time.sleep(0.1)
        begin = time.monotonic()
        with pytest.raises(DeadlineError, match="was not asked"):
            client.infer("echo", timeout_s=0.1, in_x=[1.0, 2.0])
        assert 0.1 <= time.monotonic() - begin <= 0.3
        slow.join()
        assert client.infer("echo", in_x=[1.0, 2.0])


def test_short_lived_threads_and_clients_leave_no_descriptors_and_threads_behind(url):
    def once(client: Client) -> None:
        client.infer("echo", in_x=[1.0, 2.0])

    def round_trip() -> None:
        with Client(url) as client:
            for _ in range(10):
                thread = threading.Thread(target=once, args=(client,))
                thread.start()
                thread.join()

    round_trip()
    descriptors, threads = _descriptors(), threading.active_count()
    for _ in range(5):
        round_trip()
    _wait(lambda: _descriptors() <= descriptors + 2 and threading.active_count() <= threads)


def test_a_closed_client_says_so(url):
    client = Client(url)
    assert client.ready()
    client.close()
    client.close()
    with pytest.raises(ClientError, match="is closed"):
        client.infer("echo", in_x=[1.0, 2.0])


def test_a_model_that_changed_its_tensors_is_noticed(zoo, server, url, protocol):
    """Metadata that a client has kept is asked for again before a request is refused because of it."""
    name = f"changing_{protocol}"
    zoo.python(name, "in_x:FP32[2]", "out_x:FP32[2]", ECHO)
    server.load(name)
    with Client(url) as client:
        assert client.infer(name, in_x=[1.0, 2.0])["out_x"].tolist() == [1.0, 2.0]
        config = zoo.root / name / "config.pbtxt"
        config.write_text(config.read_text().replace("dims: [ 2 ]", "dims: [ 3 ]"))
        server.load(name)
        assert client.infer(name, in_x=[1.0, 2.0, 3.0])["out_x"].tolist() == [1.0, 2.0, 3.0]
        server.unload(name)
        with pytest.raises(ModelNotFoundError):
            client.infer(name, in_x=[1.0, 2.0, 3.0])


def _together(count, work) -> None:
    """Run `work(0)`, `work(1)`, ... in threads; an exception in one of them fails the test."""
    failures = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _wait(condition) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, f"{_descriptors()} descriptors, {threading.active_count()} threads"
        time.sleep(0.05)


def _requests(server, model: str) -> float:
    """How many requests of the model the server has counted, refused ones included."""
    with urllib.request.urlopen(server.metrics_url, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    names = ("nv_inference_request_success", "nv_inference_request_failure")
    return sum(float(line.split()[-1]) for line in lines if line.startswith(names) and f'model="{model}"' in line)
