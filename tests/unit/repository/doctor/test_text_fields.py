"""The places of fields are those that protobuf reads, whatever the layout."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelport.repository import config as configs
from modelport.repository.doctor import text_fields

TEXT = """\
# a comment with name: "no"
name: "two " 'parts'
input [
  { name: 'x # no comment'  # one
    dims: [ 1,
      -1 ] },
  < name: "y" dims: 3; dims:4 reshape: { shape: [] } > ]
parameters { key: "k" value: { string_value: "}" } }
dynamic_batching { }
version_policy: { specific { versions: 0x1 } }
"""


def test_fields_have_names_values_and_lines():
    fields = text_fields.parse(TEXT)
    assert [(f.name, f.value, f.line) for f in fields] == [
        ("name", "two parts", 2), ("input", "", 4), ("input", "", 7),
        ("parameters", "", 8), ("dynamic_batching", "", 9), ("version_policy", "", 10),
    ]  # fmt: skip
    assert [(f.value, f.line) for f in text_fields.find(fields, "input", "dims")] == [
        ("1", 5), ("-1", 6), ("3", 7), ("4", 7),
    ]  # fmt: skip
    assert text_fields.entry(fields, "parameters", "k").line == 8
    assert text_fields.entry(fields, "parameters", "name") is None


def test_the_text_between_start_and_end_is_the_field():
    fields = text_fields.parse(TEXT)
    one, two = text_fields.find(fields, "input")
    assert TEXT[one.start : one.end] == TEXT[two.start : two.end]
    assert TEXT[one.start : one.end].startswith("input [") and TEXT[one.start : one.end].endswith("]")
    (empty,) = text_fields.find(fields, "dynamic_batching")
    assert TEXT[empty.start : empty.end] == "dynamic_batching { }" and TEXT[empty.inner :].startswith(" }")


def test_a_text_that_cannot_be_followed_has_no_fields():
    for text in ("name: ", "a {", "a: [ 1", "}", 'name: "open', "a: \x00"):
        assert text_fields.parse(text) == ()


@st.composite
def configurations(draw):
    config = configs.model_config_pb2.ModelConfig(name=draw(st.text(max_size=8)))
    for _ in range(draw(st.integers(0, 3))):
        config.input.add(name=draw(st.text(max_size=6)), dims=draw(st.lists(st.integers(-1, 9), max_size=4)))
    for key in draw(st.lists(st.text(max_size=6), max_size=3, unique=True)):
        config.parameters[key].string_value = draw(st.text(max_size=6))
    if draw(st.booleans()):
        config.version_policy.specific.versions[:] = draw(st.lists(st.integers(0, 9), max_size=3))
    return config


@given(configurations())
def test_what_protobuf_prints_is_read_field_for_field(config):
    """The same number of fields, at places that can be cut out one by one until nothing is left."""
    text = configs.text(config)
    fields = text_fields.parse(text)
    assert len(text_fields.find(fields, "input")) == len(config.input)
    assert len(text_fields.find(fields, "input", "dims")) == sum(len(tensor.dims) for tensor in config.input)
    assert len(text_fields.find(fields, "parameters")) == len(config.parameters)
    for start, end in sorted({(f.start, f.end) for f in fields}, reverse=True):
        text = text[:start] + text[end:]
    assert text.strip() == ""
