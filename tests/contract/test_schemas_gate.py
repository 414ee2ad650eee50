"""The gate: what was released stays readable, and nothing changes unseen."""

from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
import yaml

from schemas.__main__ import main
from schemas.catalogue import HERE, Topic, load_topics
from schemas.gate import VERSIONS, freeze, offline_problems, registry_problems, released
from schemas.registry import RegistryClient, SchemaRejected

TOPICS = load_topics()


def changed(edit: Any) -> dict[str, Topic]:
    """The catalogue with the raw schema edited."""
    topic = TOPICS["sales.raw.v1"]
    schema = orjson.loads(topic.schema_text)
    edit(schema["fields"])
    return {**TOPICS, topic.name: replace(topic, schema_text=orjson.dumps(schema).decode())}


def add_till(fields: list[dict[str, Any]]) -> None:
    fields.append({"name": "till", "type": ["null", "string"], "default": None})


def test_current_schemas_pass_the_gate_without_a_registry() -> None:
    assert offline_problems(TOPICS) == []
    assert main(["check"]) == 0
    assert main(["lint"]) == 0


def test_every_topic_has_a_released_version() -> None:
    assert {path.name for path in VERSIONS.iterdir()} == set(TOPICS)
    assert all(released(topic)[0][0] == 1 for topic in TOPICS.values())


@pytest.mark.parametrize(
    ("edit", "difference"),
    [
        (lambda fields: fields.append({"name": "till", "type": "string"}), "till: the writer lacks it"),
        (lambda fields: fields[4].update(type="long"), "stock_code: string cannot be read as long"),
        (lambda fields: fields[9].update(type="string"), "customer_id: null cannot be read as string"),
        (lambda fields: fields[0].update(name="id"), "id: the writer lacks it"),
        (
            lambda fields: fields[11]["type"].update(logicalType="timestamp-micros"),
            "invoice_ts: logical type",
        ),
    ],
)
def test_breaking_change_is_refused_with_its_field(edit: Any, difference: str) -> None:
    problems = offline_problems(changed(edit))
    assert any(f"sales.raw.v1: cannot read v1: {difference}" in problem for problem in problems)


@pytest.mark.parametrize("default", [None, 5, ""])
def test_default_that_is_no_value_of_its_type_is_refused(default: Any) -> None:
    problems = offline_problems(
        changed(lambda fields: fields.append({"name": "n", "type": ["string", "null"], "default": default}))
    )
    wrong = "sales.raw.v1: the default of n is no string"
    assert (wrong in problems) is (default != "")


def test_compatible_change_must_be_released(tmp_path: Path) -> None:
    freeze(TOPICS, tmp_path)
    topics = changed(add_till)
    assert offline_problems(topics, tmp_path) == [
        "sales.raw.v1: differs from v1; run `python -m schemas freeze` to release it"
    ]


def test_freeze_releases_only_what_changed_and_only_once(tmp_path: Path) -> None:
    assert len(freeze(TOPICS, tmp_path)) == len(TOPICS)
    assert freeze(TOPICS, tmp_path) == []
    topics = changed(add_till)
    newer = tmp_path / "newer.avsc"
    newer.write_text(topics["sales.raw.v1"].schema_text)
    topics["sales.raw.v1"] = replace(topics["sales.raw.v1"], schema_path=newer)
    assert freeze(topics, tmp_path) == [tmp_path / "sales.raw.v1" / "v2.avsc"]
    assert offline_problems(topics, tmp_path) == []


def test_freeze_refuses_a_breaking_change(tmp_path: Path) -> None:
    freeze(TOPICS, tmp_path)
    with pytest.raises(ValueError, match="cannot read v1"):
        freeze(changed(lambda fields: fields.append({"name": "till", "type": "string"})), tmp_path)
    assert [number for number, _ in released(TOPICS["sales.raw.v1"], tmp_path)] == [1]


def test_unreleased_topic_does_not_pass(tmp_path: Path) -> None:
    assert len(offline_problems(TOPICS, tmp_path)) == len(TOPICS)


def test_change_of_a_text_is_no_change(tmp_path: Path) -> None:
    freeze(TOPICS, tmp_path)
    assert offline_problems(changed(lambda fields: fields[0].update(doc="another text")), tmp_path) == []


class Judge(RegistryClient):
    """A registry that refuses one subject and rejects another."""

    def __init__(self) -> None:
        pass

    def check_compatible(self, subject: str, schema: str) -> bool:
        if subject.startswith("sales.validated"):
            raise SchemaRejected("HTTP 422: no Avro")
        return not subject.startswith("sales.raw")


def test_registrys_judgement_is_reported_by_topic() -> None:
    assert registry_problems(TOPICS, Judge()) == [
        "sales.raw.v1: not BACKWARD compatible with the registry's latest version",
        "sales.validated.v1: HTTP 422: no Avro",
    ]


def test_unreachable_registry_fails_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--registry", "http://127.0.0.1:9/"]) == 1
    assert "sales.raw.v1-value" in capsys.readouterr().err


def test_register_without_a_registry_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TILLSTREAM_REGISTRY", raising=False)
    with pytest.raises(SystemExit) as exit_info:
        main(["register"])
    assert exit_info.value.code == 2


def test_contract_follows_the_open_data_contract_standard() -> None:
    document = yaml.safe_load((HERE / "contracts" / "sales.odcs.yaml").read_text(encoding="utf-8"))
    standard = orjson.loads((resources.files("open_data_contract_standard") / "schema.json").read_bytes())
    assert [error.message for error in jsonschema.Draft201909Validator(standard).iter_errors(document)] == []


def test_contract_describes_the_fields_of_the_raw_schema() -> None:
    document = yaml.safe_load((HERE / "contracts" / "sales.odcs.yaml").read_text(encoding="utf-8"))
    described = {each["name"]: each["required"] for each in document["schema"][0]["properties"]}
    fields = orjson.loads(TOPICS["sales.raw.v1"].schema_text)["fields"]
    assert described == {field["name"]: not isinstance(field["type"], list) for field in fields}
