"""Every script in clients/ against a server with models of the samples' names and tensors."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from modelport.commands.infer import infer
from modelport.errors import RequestError
from modelport.gateway import development_certificate
from modelport.server import EmbeddedServer

# name -> (inputs, outputs, what `outputs(x)` gives for a batch of the first input)
MODELS = {
    "linear_regression": ("x:FP32[1]", "y:FP32[1]", "return [2 * x + 1]"),
    "tabular_classifier": ("features:FP32[30]", "probability:FP32[1]", "return [x.mean(axis=1, keepdims=True)]"),
    "digits_cnn": (
        "image:FP32[28,28,1]",
        "probabilities:FP32[10]",
        "return [np.eye(10, dtype=np.float32)[(x.mean(axis=(1, 2, 3)) * 9).round().astype(int)]]",
    ),
    "image_classifier": (
        "image:UINT8[224,224,3]",
        "probabilities:FP32[3]",
        "return [(x.mean(axis=(1, 2)) / 255).astype(np.float32)]",
    ),
    "resnet18": (
        "image:FP32[3,-1,-1]",
        "logits:FP32[3]",
        "return [x.mean(axis=(2, 3)) * x.shape[2]]",
    ),
    "text_classifier": (
        "text:STRING[1]",
        "probabilities:FP32[2] label:STRING[1]",
        "good = np.array([[b'good' in t[0]] for t in x])\n"
        "return [np.hstack([~good, good]).astype(np.float32), np.where(good, 'positive', 'negative').astype(object)]",
    ),
    "recommender": (
        "ratings:FP32[1682]",
        "items:INT64[10] scores:FP32[10]",
        "best = np.argsort(-x, axis=1)[:, :10]\nreturn [best, np.take_along_axis(x, best, axis=1)]",
    ),
}
LABELS = {"image_classifier": "red\ngreen\nblue\n"}
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

def outputs(x):
    {body}

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            arrays = outputs(pb_utils.get_input_tensor_by_name(request, "{first}").as_numpy())
            tensors = [pb_utils.Tensor(name, array) for name, array in zip({names}, arrays)]
            answers.append(pb_utils.InferenceResponse(tensors))
        return answers
"""


def tensors(word: str, text: str, label_file: str = "") -> str:
    labels = f' label_filename: "{label_file}"' if label_file else ""
    return "".join(
        f'{word} {{ name: "{name}" data_type: TYPE_{dtype} dims: [ {dims} ]{labels} }}\n'
        for name, dtype, dims in re.findall(r"(\w+):(\w+)\[([-\d,]+)\]", text)
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of tiny models that stand for the samples."""
    root = tmp_path_factory.mktemp("clients") / "model_repository"
    for name, (inputs, outputs, body) in MODELS.items():
        folder = root / name / "1"
        folder.mkdir(parents=True)
        names = [text.split(":")[0] for text in outputs.split()]
        (folder / "model.py").write_text(
            MODEL.format(body=body.replace("\n", "\n    "), first=inputs.split(":")[0], names=names)
        )
        label_file = "labels.txt" if name in LABELS else ""
        if label_file:
            (root / name / label_file).write_text(LABELS[name])
        (root / name / "config.pbtxt").write_text(
            f'name: "{name}"\nbackend: "python"\nmax_batch_size: 8\n'
            + tensors("input", inputs)
            + tensors("output", outputs, label_file)
            + "instance_group { kind: KIND_CPU count: 1 }\nversion_policy { specific { versions: [ 1 ] } }\n"
        )
    with EmbeddedServer(root, http_port=0, grpc_port=0, metrics_port=0) as started:
        assert not started.failed
        yield started


@pytest.fixture
def url(server):
    return server.http_url


@pytest.fixture
def run(root):
    """`run(script, *arguments)`: the finished process of a script in clients/."""

    def start(script: str, *arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        program = ["bash"] if script.endswith(".sh") else [sys.executable]
        return subprocess.run(
            [*program, str(root / "clients" / script), *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return start


@pytest.fixture
def says(run):
    """`says(script, *arguments)`: what it prints, when it succeeds."""

    def start(script: str, *arguments: object, stdin: str = "") -> str:
        done = run(script, *arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return start


def test_image_client_prints_labels_in_order(says, url, tmp_path):
    Image.new("RGB", (300, 260), (250, 120, 10)).save(tmp_path / "orange.png")
    lines = says("image_client.py", tmp_path / "orange.png", "--url", url, "--top", 3).splitlines()
    assert [line.split()[-1] for line in lines] == ["red", "green", "blue"]


def test_image_client_prepares_pictures_for_models_of_numbers(says, url, tmp_path):
    Image.new("L", (28, 28), 0).save(tmp_path / "black.png")
    arguments = (tmp_path / "black.png", "--url", url, "--model", "digits_cnn", "--top", 1)
    assert says("image_client.py", *arguments).split()[-1] == "0"
    assert says("image_client.py", *arguments, "--invert").split()[-1] == "9"


def test_image_client_knows_colours_first_and_free_sizes(says, url, tmp_path):
    Image.new("RGB", (50, 40), (0, 0, 255)).save(tmp_path / "blue.png")
    line = says("image_client.py", tmp_path / "blue.png", "--url", url, "--model", "resnet18", "--top", 1)
    assert line.split()[1:] == ["40.0000", "class", "2"]


def test_text_client(says, url, server):
    out = says("text_client.py", "a good film", "schlecht", "--url", url)
    assert out.splitlines() == [
        "a good film",
        "    probabilities: 0.0000 1.0000",
        "    label: positive",
        "schlecht",
        "    probabilities: 1.0000 0.0000",
        "    label: negative",
    ]
    assert "label: positive" in says("text_client.py", "--url", server.grpc_url, stdin="so good\n\n")


def test_tabular_client(says, url, tmp_path):
    header, ones = ",".join(f"f{n}" for n in range(30)), ",".join(["1.0"] * 30)
    (tmp_path / "rows.csv").write_text(f"{header}\n{ones}\n{ones.replace('1', '3')}\n")
    lines = says("tabular_client.py", "--csv", tmp_path / "rows.csv", "--url", url).splitlines()
    assert lines == ["row 1 (30 numbers): probability [1.]", "row 2 (30 numbers): probability [3.]"]
    out = says("tabular_client.py", "--model", "linear_regression", "--row", "0.5", "--row", "-1", "--url", url)
    assert [line.split()[-1] for line in out.splitlines()] == ["[2.]", "[-1.]"]
    assert "probability [1.]" in says("tabular_client.py", "--csv", "-", "--url", url, stdin=ones)


def test_recommender_client(says, url, tmp_path):
    out = says("recommender_client.py", "7=5", "3=4.5", "--url", url)
    assert [line.split()[1:] for line in out.splitlines()[:2]] == [["5.0000", "item", "7"], ["4.5000", "item", "3"]]
    (tmp_path / "ratings.json").write_text(json.dumps({"1": 5}))
    (tmp_path / "titles.txt").write_text("Zero\nOne\n")
    files = ("--json", tmp_path / "ratings.json", "--titles", tmp_path / "titles.txt")
    assert says("recommender_client.py", *files, "--url", url).splitlines()[0].endswith("One")


def test_plain_tritonclient_needs_no_modelport(says, server, root):
    for url in (server.http_url, server.grpc_url):
        assert says("plain_tritonclient.py", "0.5", "--url", url).strip() == "y: [[2.]]"
    assert "probabilities" in says("plain_tritonclient.py", "--model", "digits_cnn", "--url", server.http_url)
    assert "modelport" not in (root / "clients" / "plain_tritonclient.py").read_text().split('"""', 2)[2]


def test_the_shell_script(run, says, server):
    body = json.loads(says("infer.sh", "-u", server.http_url))
    assert body["outputs"][0]["data"] == [2.0]
    rows = '{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [1, 2]}]}'
    assert json.loads(says("infer.sh", "-u", server.http_url, "-m", "linear_regression", rows))["outputs"][0][
        "data"
    ] == [3, 5]
    assert run("infer.sh", "-u", server.http_url, "-m", "nothing").returncode != 0


@pytest.fixture(scope="module")
def front(server, tmp_path_factory):
    """A place with TLS before the server: its HTTP and gRPC ports by scheme, its authority, and what came in."""
    made = development_certificate.ensure(tmp_path_factory.mktemp("front") / "models")
    received: list[bytes] = []
    with contextlib.ExitStack() as stack:
        ports = {}
        for scheme, url, spoken in (("https", server.http_url, "http/1.1"), ("grpcs", server.grpc_url, "h2")):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(made.certificate, made.key)
            context.set_alpn_protocols([spoken])
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            ports[scheme] = listener.getsockname()[1]
            port = int(url.rpartition(":")[2])
            threading.Thread(target=accept, args=(listener, context, port, received), daemon=True).start()
        yield {scheme: f"{scheme}://localhost:{port}" for scheme, port in ports.items()}, made.ca, received


def accept(listener, context, port, received):
    """Pass on what comes in over TLS, and keep it."""
    while True:
        try:
            outside, _ = listener.accept()
        except OSError:
            return
        with contextlib.suppress(OSError):
            tls = context.wrap_socket(outside, server_side=True)
            inside = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=copy, args=(tls, inside, received), daemon=True).start()
            threading.Thread(target=copy, args=(inside, tls, []), daemon=True).start()


def copy(source, target, kept):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            kept.append(data)
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("script", "scheme", "words"),
    [
        ("infer.sh", "https", ["-u"]),
        ("plain_tritonclient.py", "https", ["0.5", "--url"]),
        ("plain_tritonclient.py", "grpcs", ["0.5", "--url"]),
        ("tabular_client.py", "https", ["--model", "linear_regression", "--row", "0.5", "--url"]),
        ("tabular_client.py", "grpcs", ["--model", "linear_regression", "--row", "0.5", "--url"]),
    ],
)
def test_scripts_take_the_token_and_the_authority_from_the_environment(front, run, monkeypatch, script, scheme, words):
    """Neither stands in an argument list, which everybody on the machine can read."""
    urls, ca, received = front
    refused = run(script, *words, urls[scheme])
    assert refused.returncode != 0 and "Traceback" not in refused.stderr, refused.stderr
    monkeypatch.setenv("MODELPORT_CA", str(ca))
    monkeypatch.setenv("MODELPORT_TOKEN", "a-token")
    received.clear()
    done = run(script, *words, urls[scheme])
    assert done.returncode == 0 and re.search(r"\b2\.0?", done.stdout), done.stderr
    if scheme == "https":  # gRPC's headers are compressed
        assert b"authorization: bearer a-token" in b"".join(received).lower()


def test_the_infer_verb_with_tls(front):
    urls, ca, received = front
    received.clear()
    for url in urls.values():
        answer = infer("linear_regression", url=url, inputs=["x=0.5"], token="a-token", ca_file=ca)
        assert answer["y"].tolist() == [2.0]
    assert b"authorization: bearer a-token" in b"".join(received).lower()


def test_the_infer_verb(url, server, tmp_path):
    """`modelport infer` with a file and with JSON."""
    np.save(tmp_path / "x.npy", np.array([[1.0], [2.0]], np.float32))
    assert infer("linear_regression", url=url, inputs=[f"x=@{tmp_path}/x.npy"])["y"].tolist() == [[3.0], [5.0]]
    assert infer("linear_regression", url=server.grpc_url, inputs=["x=0.5"])["y"].tolist() == [2.0]
    assert infer("text_classifier", url=url, inputs=["text=very good"])["label"].tolist() == ["positive"]
    with pytest.raises(RequestError, match="'x' is missing"):
        infer("linear_regression", url=url, inputs=["z=1"])


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("image_client.py", ["missing.png"]),
        ("image_client.py", [__file__]),
        ("text_client.py", ["x", "--model", "nothing"]),
        ("tabular_client.py", ["--row", "1,2"]),
        ("tabular_client.py", ["--row", "a,b", "--row", "c"]),
        ("recommender_client.py", ["9999=5"]),
        ("recommender_client.py", ["a=b"]),
        ("plain_tritonclient.py", ["1", "2", "3"]),
    ],
)
def test_what_goes_wrong_is_told_without_a_traceback(run, server, script, arguments):
    done = run(script, *arguments, "--url", server.http_url)
    assert done.returncode != 0
    assert done.stderr.startswith(script.removesuffix(".py")) and "Traceback" not in done.stderr


def test_an_unreachable_server_is_told_without_a_traceback(run, free_port):
    done = run("text_client.py", "x", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode != 0 and "nothing listens" in done.stderr and "Traceback" not in done.stderr


def test_every_script_explains_itself_with_an_example(run, root):
    scripts = sorted(path.name for path in (root / "clients").iterdir() if path.suffix in (".py", ".sh"))
    assert len(scripts) == 6
    for script in scripts:
        done = run(script, "-h")
        assert done.returncode == 0 and f"clients/{script} " in done.stdout, script
        assert len((root / "clients" / script).read_text().splitlines()) < 120
