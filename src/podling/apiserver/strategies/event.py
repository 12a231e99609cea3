"""Events that are written through events.k8s.io: stored as those of the core group, but held to stricter rules."""

from __future__ import annotations

from podling.api import validation
from podling.api.core.v1 import Event
from podling.api.field import FieldError
from podling.apiserver.conversion import shown_event
from podling.apiserver.strategies.generic import CreatedOnUpdate


class NewEventStrategy(CreatedOnUpdate):
    def validate(self, obj: Event) -> list[FieldError]:
        return validation.validate_create(shown_event(obj))

    def validate_update(self, obj: Event, old: Event) -> list[FieldError]:
        return validation.validate_update(shown_event(obj), shown_event(old))
