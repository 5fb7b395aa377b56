"""What a person may have written into serve.yaml or a .jsonl file: read, or refused with its place named."""

import pytest

from detrec.config import apply_overrides, load_config, serve_config
from detrec.errors import ConfigError
from tests.command import detrec

GOOD = "model: builtin:qwen2-tiny\nengine: {max_model_len: 64}\n"
ONE = "requests: [{prompt: hello}]\n"
REQUEST = '{"prompt": "hello"}\n'


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(("\ufeff" + GOOD + ONE).encode(), id="byte order mark"),
        pytest.param((GOOD + ONE).replace("\n", "\r\n").encode(), id="ends of lines"),
        pytest.param((GOOD + "record: &r {level: op}\n" + ONE).encode(), id="anchor"),
    ],
)
def test_what_an_editor_leaves_is_read(tmp_path, data):
    (tmp_path / "serve.yaml").write_bytes(data)
    config = load_config(tmp_path / "serve.yaml", ["engine.max_num_seqs=2"], {})
    assert [request.prompt for request in config.requests] == ["hello"]
    assert (config.engine.max_model_len, config.engine.max_num_seqs) == (64, 2)


LONG, DEEP = "9" * 400, "[" * 3000 + "]" * 3000
REFUSED = [
    ("", "expected a mapping of settings, got nothing", "README"),
    ("hello", "got text", "README"),
    (GOOD + ONE + ONE, ":4:1: not YAML: 'requests' is given twice", ""),
    (GOOD.replace("64", "64, seed: 1, max_model_len: 32") + ONE, ":2:38: not YAML", ""),
    (GOOD + "record: {output: 2026-13-45}\n" + ONE, ":3:18: not YAML: month", ""),
    (GOOD.replace("64", "9" * 5000) + ONE, ":2:25: not YAML: Exceeds", ""),
    (GOOD + f"requests: {DEEP}", "nested too deeply", ""),
    (f"engine: false\nmodel: a\n{ONE}", "engine: expected a mapping, got true or false", "engine.name"),
    (f"{GOOD}record: 0\n{ONE}", "record: expected a mapping, got a whole number", ""),
    (f"{GOOD}requests:\n", "expected a list or a .jsonl file, got nothing", ""),
    (f"{GOOD}requests: [{{prompt: a, sampling: []}}]", "sampling: expected a mapping, got a list", ""),
    (f"{GOOD}requests: [{{prompt: a, id: ''}}]", "requests[0]: id is empty", "leave it out"),
    (GOOD + 'requests: [{prompt: "\\ud800"}]', "half a character at 0", "ud800"),
    (f"{GOOD}requests: [{{prompt: a, sampling: {{temperature: 1e-1}}}}]", "got '1e-1'", "1.0e-3"),
    (f"{GOOD}requests: [{{prompt: a, sampling: {{temperature: {LONG}}}}}]", "that a float holds", ""),
    (f"{GOOD}requests: [{{prompt: a, arrival: {1 << 31}}}]", "at most 2147483647", ""),
    ('model: "a\\0b"\nrequests: "c\\0d"\n', "cannot be read: embedded null", ".jsonl"),
    (f"{GOOD}requests: none.jsonl\n", "none.jsonl: cannot be read: No such file", ".jsonl"),
]


@pytest.mark.parametrize(("text", "message", "hint"), REFUSED, ids=[message for _, message, _ in REFUSED])
def test_what_a_reader_would_drop_or_trip_over_is_refused(tmp_path, text, message, hint):
    (tmp_path / "serve.yaml").write_text(text)
    for overrides in ([], ["model=builtin:x"]):
        with pytest.raises(ConfigError) as caught:
            load_config(tmp_path / "serve.yaml", overrides, {})
        error = str(caught.value)
        assert (str(tmp_path) in error, message in error, "[Errno" in error) == (True, True, False)
        assert hint in caught.value.hint


def test_bytes_that_are_no_text_are_named(tmp_path):
    (tmp_path / "serve.yaml").write_bytes((GOOD + ONE).encode("utf-16"))
    with pytest.raises(ConfigError, match="is not UTF-8: byte 0 is 0xff") as caught:
        load_config(tmp_path / "serve.yaml", (), {})
    assert caught.value.hint == "save it as UTF-8"


@pytest.mark.parametrize("value", ["2026-01-01", "!!set {a}", "!!binary aGk="])
def test_values_that_json_lacks_are_refused_with_settings_too(tmp_path, value):
    (tmp_path / "serve.yaml").write_text(f"{GOOD}record: {{output: {value}}}\n{ONE}")
    for overrides in ([], ["engine.seed=1"]):
        with pytest.raises(ConfigError, match="record: output: expected text"):
            load_config(tmp_path / "serve.yaml", overrides, {})


def test_a_mapping_inside_itself_is_refused(tmp_path):
    (tmp_path / "serve.yaml").write_text("model: a\nengine: &e {seed: *e}\n" + ONE)
    with pytest.raises(ConfigError, match="seed: expected a whole number"):
        load_config(tmp_path / "serve.yaml", ["engine.max_num_seqs=2"], {})


@pytest.mark.parametrize("text", ["engine..seed=1", ".seed=1", "engine.=1", "=1", "engine.seed", ""])
def test_settings_without_a_key_are_refused(text):
    with pytest.raises(ConfigError, match="expected key=value"):
        load(text)


@pytest.mark.parametrize("value", ["[1", "!!python/object:os.system x", "[" * 3000])
def test_settings_that_are_no_value_are_refused(value):
    with pytest.raises(ConfigError, match=r"--set engine\.seed(:\d+:\d+)?: not YAML"):
        load(f"engine.seed={value}")


def test_an_entry_of_a_list_is_no_setting():
    with pytest.raises(ConfigError, match="requests is not a mapping") as caught:
        load("requests.0.id=b")
    assert "as a whole" in caught.value.hint


def load(text):
    return serve_config(
        apply_overrides({"model": "builtin:qwen2-tiny", "requests": [{"prompt": "a"}]}, [text])
    )


def test_lines_of_json_end_where_they_say(tmp_path):
    (tmp_path / "serve.yaml").write_text(GOOD + "requests: all.jsonl\n")
    (tmp_path / "all.jsonl").write_bytes('\ufeff{"prompt": "a\u2028b\x85c"}\r\n{"prompt": "d"}\r\n'.encode())
    config = load_config(tmp_path / "serve.yaml", (), {})
    assert [request.prompt for request in config.requests] == ["a\u2028b\x85c", "d"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a", "prompt": "b"}', "'prompt' is given twice"),
        ("[" * 100000, "nested too deeply"),
        (f'{{"prompt": "a", "arrival": {"9" * 5000}}}', "Exceeds the limit"),
        ("[1]", "expected a mapping, got a list"),
        ('[{"prompt": "a",', "not JSON: .*, at column 17"),
    ],
)
def test_a_line_that_is_no_request_is_named(tmp_path, line, message):
    (tmp_path / "serve.yaml").write_text(GOOD + "requests: all.jsonl\n")
    (tmp_path / "all.jsonl").write_text(REQUEST + line + "\n")
    with pytest.raises(ConfigError, match=rf"all\.jsonl:2: .*{message}"):
        load_config(tmp_path / "serve.yaml", (), {})


def test_a_request_that_garbles_a_terminal_is_named_in_its_error(tmp_path):
    text = GOOD + 'requests: [{id: "a\\e[31m\\nb", messages: [{role: alien, content: x}]}]\n'
    (tmp_path / "serve.yaml").write_text(text)
    done = detrec("record", tmp_path / "serve.yaml", "-o", tmp_path / "run.zarr")
    error, _ = done.stderr.splitlines()
    assert (done.code, error.startswith(r"detrec: error: request a\x1b[31m\nb: messages[0]: role")) == (
        2,
        True,
    )
