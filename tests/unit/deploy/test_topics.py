"""Topics are created once, and a topic with another number of partitions is refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import NewTopic

from deploy import topics
from schemas.catalogue import BareTopic, load_captured, load_topics

WANTED: dict[str, BareTopic] = {**load_topics(), **load_captured()}


class Created:
    """What the broker answers for one new topic."""

    def __init__(self, code: int | None = None) -> None:
        self._code = code

    def result(self) -> None:
        if self._code is not None:
            raise KafkaException(KafkaError(self._code))


class Admin:
    """A broker with some topics: name to number of partitions."""

    def __init__(self, there: dict[str, int], answer: int | None = None) -> None:
        self.there, self.answer = there, answer
        self.asked: list[str] = []

    def list_topics(self, timeout: float) -> SimpleNamespace:
        found = {name: SimpleNamespace(partitions=dict.fromkeys(range(n))) for name, n in self.there.items()}
        return SimpleNamespace(topics=found)

    def create_topics(self, new: list[NewTopic], operation_timeout: float) -> dict[str, Created]:
        self.asked += [topic.topic for topic in new]
        return {topic.topic: Created(self.answer) for topic in new}


def _create(monkeypatch: pytest.MonkeyPatch, admin: Admin) -> list[str]:
    monkeypatch.setattr(topics, "AdminClient", lambda _: admin)
    return topics.create_topics("127.0.0.1:1")


def test_only_missing_topics_are_created(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = WANTED
    admin = Admin({first: WANTED[first].partitions, "of somebody else": 1})
    assert _create(monkeypatch, admin) == others == admin.asked


def test_broker_that_has_all_is_asked_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = Admin({name: topic.partitions for name, topic in WANTED.items()})
    assert _create(monkeypatch, admin) == admin.asked == []


def test_topic_with_another_number_of_partitions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(iter(WANTED))
    admin = Admin({name: WANTED[name].partitions + 1})
    with pytest.raises(topics.TopicError, match=f"{name} has {WANTED[name].partitions + 1} partitions"):
        _create(monkeypatch, admin)
    assert admin.asked == []


def test_topic_that_another_creates_meanwhile_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    _create(monkeypatch, Admin({}, KafkaError.TOPIC_ALREADY_EXISTS))


def test_refusal_of_the_broker_is_an_error_that_names_the_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(topics.TopicError, match="could not be created"):
        _create(monkeypatch, Admin({}, KafkaError.POLICY_VIOLATION))
