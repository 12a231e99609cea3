"""Which Events are written anew, counted up, combined or dropped."""

from __future__ import annotations

from podling.api.core.v1 import Event, ObjectReference
from podling.api.meta.v1 import ObjectMeta
from podling.client.events import Correlator


def event(message: str = "m", *, reason: str = "BackOff", name: str = "web", path: str = "", number: int = 0) -> Event:
    return Event(
        metadata=ObjectMeta(name=f"{name}.{number}", namespace="default"),
        involved_object=ObjectReference(kind="Pod", namespace="default", name=name, field_path=path),
        type="Warning",
        reason=reason,
        message=message,
        count=1,
        first_timestamp=f"2026-01-01T00:00:{number:02}Z",
        last_timestamp=f"2026-01-01T00:00:{number:02}Z",
    )


def send(correlator: Correlator, new: Event, now: float = 0.0) -> tuple[Event, bool] | None:
    """Correlates and, as if the server took it, remembers."""
    result = correlator.correlate(new, now)
    if result is None:
        return None
    key, written, again = result
    correlator.written(key, written)
    return written, again


def test_the_same_event_again_raises_the_count_and_keeps_name_and_first_time() -> None:
    correlator = Correlator()
    send(correlator, event(number=1))
    second = send(correlator, event(number=2))
    assert second is not None
    written, again = second
    assert again
    assert (written.count, written.metadata.name) == (2, "web.1")
    assert (written.first_timestamp, written.last_timestamp) == ("2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z")


def test_other_objects_messages_reasons_and_paths_are_other_events() -> None:
    correlator = Correlator()
    send(correlator, event())
    for other in (event("n"), event(reason="Failed"), event(name="db"), event(path="spec.containers{a}")):
        result = send(correlator, other)
        assert result is not None
        assert not result[1]


def test_the_tenth_message_of_a_kind_is_combined_with_those_that_follow() -> None:
    correlator = Correlator()
    results = [send(correlator, event(f"message {n}", number=n)) for n in range(12)]
    written = [result for result in results if result is not None]
    assert [again for _, again in written] == [False] * 10 + [True] * 2
    assert [e.message for e, _ in written[8:]] == [
        "message 8",
        "(combined from similar events): message 9",
        "(combined from similar events): message 10",
        "(combined from similar events): message 11",
    ]
    assert [e.count for e, _ in written[9:]] == [1, 2, 3]


def test_after_ten_quiet_minutes_messages_are_kept_apart_again() -> None:
    correlator = Correlator()
    for n in range(12):
        send(correlator, event(f"message {n}"))
    result = send(correlator, event("message 12"), now=601.0)
    assert result is not None
    assert result[0].message == "message 12"


def test_an_object_gets_25_events_at_once_and_then_one_in_five_minutes() -> None:
    correlator = Correlator()
    assert [send(correlator, event()) is not None for _ in range(27)] == [True] * 25 + [False] * 2
    assert send(correlator, event(name="db")) is not None
    assert send(correlator, event(), now=299.0) is None
    assert send(correlator, event(), now=301.0) is not None


def test_events_that_were_dropped_are_counted_all_the_same() -> None:
    correlator = Correlator()
    for _ in range(30):
        send(correlator, event())
    result = send(correlator, event(), now=301.0)
    assert result is not None
    assert result[0].count == 31
