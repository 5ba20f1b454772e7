"""What is refused, and how the front says no."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from troika_ray.dialect import last_words, refuse
from troika_ray.settings import Settings
from troika_ray.wire import Call, Head, Whole, passed_on


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({}, "keys"),
        ({"keys_file": "k", "modle": "m"}, "modle"),
        ({"keys_file": "k", "serve_args": ["--host=0.0.0.0"]}, "--host"),
        ({"keys_file": "k", "serve_args": ["--ctx", "8", "--port", "1"]}, "--port"),
        ({"keys_file": "k", "min_replicas": 3, "max_replicas": 2}, "max_replicas"),
        ({"keys_file": "k", "fronts": 2}, "fronts"),
        ({"keys_file": "k", "spill_factor": 1.0}, "spill_factor"),
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, object], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        Settings.model_validate(wrong)


def test_settings_that_do() -> None:
    assert Settings(keys_file="/etc/troika/keys.toml", entry="nodes", fronts=3).fronts == 3
    assert Settings(allow_unauthenticated_network=True).max_replicas == 1


def test_every_interface_is_refused_in_its_words() -> None:
    for path, want in [
        ("/v1/chat/completions", {"error": {"message": "no", "type": "server_error", "param": None, "code": "unavailable"}}),
        ("/api/troika/state", {"error": {"message": "no", "type": "server_error", "param": None, "code": "unavailable"}}),
        ("/v1/messages", {"type": "error", "error": {"type": "overloaded_error", "message": "no"}}),
        ("/api/chat", {"error": "no"}),
    ]:
        response = refuse(path, 503, "no", 5)
        assert json.loads(bytes(response.body)) == want
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")


def test_streams_end_with_an_error_that_clients_know() -> None:
    sse = "text/event-stream; charset=utf-8"
    assert last_words("/v1/chat/completions", sse, "no").startswith(b'\n\ndata: {"error": {')  # type: ignore[union-attr]
    assert last_words("/v1/messages", sse, "no").startswith(b'\n\nevent: error\ndata: {"type": "error"')  # type: ignore[union-attr]
    assert json.loads(last_words("/api/chat", "application/x-ndjson", "no") or b"") == {"error": "no"}
    assert last_words("/api/show", "application/json", "no") is None


def test_nobody_prints_prompts_or_keys() -> None:
    call = Call("POST", "/x?secret", [(b"authorization", b"Bearer secret")], b"secret")
    assert "secret" not in repr(call) + repr(Whole("r", Head(200, []), b"secret"))


def test_what_the_planner_writes_is_taken() -> None:
    snapshots = Path(__file__).parents[3] / "crates/planner/src/emit/snapshots"
    (snapshot,) = snapshots.glob("*the_configuration_of_ray*.snap")
    (application,) = yaml.safe_load(snapshot.read_text().split("---\n", 2)[2])["applications"]
    assert application["import_path"] == "troika_ray.app:build"
    assert Settings.model_validate(application["args"]).serve_args


def test_the_example_is_taken() -> None:
    example = Path(__file__).parents[1] / "config.yaml"
    (application,) = yaml.safe_load(example.read_text())["applications"]
    assert Settings.model_validate(application["args"]).keys_file


def test_headers_of_one_connection_are_not_passed_on() -> None:
    headers = [(b"connection", b"close"), (b"host", b"h"), (b"x-troika-class", b"batch"), (b"content-length", b"3")]
    assert passed_on(headers, b"host") == [(b"x-troika-class", b"batch")]
