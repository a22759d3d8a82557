"""What a rule names does not come through, neither in the files nor after decryption."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.errors import UsageError
from modelport.gateway.capture import exchange, keeper, patterns
from modelport.gateway.capture.decoding import decode
from modelport.gateway.capture.exchange import MASKED, REDACTED
from modelport.gateway.capture.keeper import Keeper
from modelport.gateway.capture.redaction import redact
from modelport.gateway.capture.secret import Key
from modelport.gateway.capture.stored import Rule

KEY = Key(secret=bytes(range(32)))
EMAIL = r"re:[\w.+-]+@[\w-]+\.\w+"
# No run of these letters stands in what is kept anyway, such as the JSON around it.
SECRET = st.text(st.sampled_from("QXZJWVK"), min_size=6, max_size=12)


def rule(*words, **more):
    return Rule(model="net", part=1.0, redact=words, **more)


def texts(*words):
    return np.array(words, object)


def all_of(found):
    """Everything of an exchange, as one text."""
    arrays = {**{f"i{n}": a for n, a in found.inputs.items()}, **{f"o{n}": a for n, a in found.outputs.items()}}
    words = [str(element) for array in arrays.values() for element in array.reshape(-1).tolist()]
    return " ".join([*words, found.request_id, found.tenant, json.dumps(dict(found.parameters))])


@settings(max_examples=40)
@given(
    secret=SECRET,
    around=st.text(st.sampled_from("ab \né"), max_size=10),
    form=st.sampled_from(["json", "binary", "grpc"]),
    side=st.sampled_from(["input", "output"]),
    how=st.sampled_from(["field", "pattern"]),
    number=st.floats(1e6, 1e7).map(np.float32),
)
def test_a_redacted_value_is_nowhere(pair, secret, around, form, side, how, number):
    """Not in the bytes that are sealed, not in the files, not in what is decrypted."""
    hidden, open_ = texts(around + secret, secret + around), texts(around, "x")
    figures = np.array([[number, 1.0]], np.float32)
    inputs, outputs = {"a": open_, "n": figures}, {"b": open_}
    (inputs if side == "input" else outputs)["hidden"] = hidden
    more = {"id": secret, "parameters": {"who": secret}}
    words = ("hidden" if how == "field" else f"re:{re.escape(secret)}", "n")
    done = redact(decode(pair(inputs, outputs, form=form, **more)), rule(*words))
    assert secret not in all_of(done) and str(number) not in all_of(done)
    packed = exchange.pack(done)
    assert secret.encode() not in packed and figures.tobytes()[:4] not in packed
    assert done.marks[f"{side} hidden"] == (REDACTED if how == "field" else MASKED)
    kept = done.inputs if side == "input" else done.outputs
    assert kept["hidden"].shape == hidden.shape and done.inputs["n"].tolist() == [[0.0, 0.0]]
    with tempfile.TemporaryDirectory() as name:
        repository = Path(name, "m")
        writer = Keeper(repository, KEY)
        writer.keep(done, rule(*words))
        writer.close()
        content = b"".join(p.read_bytes() for p in keeper.folder(repository).rglob("*") if p.is_file())
        (again,) = keeper.read(repository, "net", KEY)
    assert secret.encode() not in content and secret not in all_of(again) and len(content) > 100
    assert figures.tobytes()[:4] not in content or number == 0


def test_what_is_not_named_stays_as_it_was(pair, x):
    done = redact(decode(pair({"x": x, "t": texts("a@b.de", "plain")}, {"y": x})), rule(EMAIL))
    assert np.array_equal(done.inputs["x"], x) and np.array_equal(done.outputs["y"], x)
    assert done.inputs["t"].tolist() == ["[redacted]", "plain"] and dict(done.marks) == {"input t": MASKED}


def test_a_name_counts_for_inputs_and_outputs(pair, x):
    done = redact(decode(pair({"x": x}, {"x": x})), rule("x"))
    assert dict(done.marks) == {"input x": REDACTED, "output x": REDACTED}
    assert not done.inputs["x"].any() and done.inputs["x"].dtype == x.dtype and not done.outputs["x"].any()


def test_bytes_that_are_no_text_are_searched_too(pair):
    done = redact(decode(pair({"t": texts(b"\xff a@b.de \xfe")}, None)), rule(EMAIL))
    assert done.inputs["t"].tolist() == [b"\xff [redacted] \xfe"]


def test_a_text_that_is_too_long_to_be_searched_is_replaced(pair):
    done = redact(decode(pair({"t": texts("y" * (patterns.LONGEST + 1))}, None)), rule(EMAIL))
    assert done.inputs["t"].tolist() == ["[redacted]"] and done.marks["input t"] == MASKED


def test_id_parameters_and_tenant_are_gone_unless_asked_for(pair, x):
    found = decode(pair({"x": x}, None, form="json", id="a@b.de", parameters={"who": "c@d.de", "n": 7}))
    done = redact(found, rule(EMAIL))
    assert (done.request_id, done.tenant, dict(done.parameters)) == ("", "", {})
    done = redact(found, rule(EMAIL, "re:7", also=("id", "tenant", "parameters")))
    assert (done.request_id, done.tenant) == ("[redacted]", "acme")
    assert dict(done.parameters) == {"who": "[redacted]", "n": "[redacted]"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("re:(",), "no regular expression"),
        (("re:x*",), "matches an empty text"),
        (("two words",), "no tensor's name"),
        (("re:", "-"), "matches an empty text"),
    ],
)
def test_words_that_cannot_be_are_refused(words, why):
    with pytest.raises(UsageError, match="cannot be captured so") as caught:
        rule(*words)
    assert why in caught.value.why


def test_an_expression_that_could_take_for_ever_is_refused():
    with pytest.raises(UsageError, match="takes too long"):
        patterns.check_speed("re:(a|aa)+$")


def test_an_expression_without_repeats_is_fast():
    patterns.check_speed(r"re:\b\d{3}-\d{2}-\d{4}\b")
