"""The options of list and watch: what they mean and which of them contradict each other."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from enum import StrEnum

import msgspec
from msgspec import Struct

from podling.api import field, go, status
from podling.api.field import FieldError
from podling.apiserver.routing import is_true

_KIND = "ListOptions.meta.k8s.io"
_TOKEN_VERSION = "meta.k8s.io/v1"
_MAX_DIGITS = 20
"""Of a revision: about what an unsigned number of 64 bits has. Python refuses numbers of thousands."""

TOO_OLD = (
    "The provided from parameter is too old to display a consistent list result. "
    "You must start a new list without the from."
)
TOKEN_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. "
    "You can start a new list without the continue parameter, or use the continue token in this response "
    "to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent "
    "list - objects that were created, modified, or deleted between the time the first chunk was returned and "
    "now may show up in the list."
)


class Match(StrEnum):
    UNSET = ""
    EXACT = "Exact"
    NOT_OLDER = "NotOlderThan"


class Options(Struct, frozen=True, kw_only=True):
    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    continue_: str = ""
    revision: int | None = None
    """The resourceVersion given, or None."""
    match: Match = Match.UNSET
    timeout: float | None = None
    """Seconds."""
    bookmarks: bool = False
    initial_events: bool | None = None

    @property
    def exact(self) -> bool:
        """Whether a list is wanted as of exactly the revision given."""
        legacy = self.match is Match.UNSET and self.limit > 0 and bool(self.revision)
        return self.match is Match.EXACT or legacy


class _Token(Struct, rename={"version": "v", "revision": "rv"}):
    version: str = ""
    revision: int = 0
    start: str = ""


def parse(query: Mapping[str, str], *, watch: bool) -> Options:
    """Raises ApiError (400, 422)."""
    given = query.get("resourceVersionMatch", "")
    initial = query.get("sendInitialEvents")
    options = Options(
        label_selector=query.get("labelSelector", ""),
        field_selector=query.get("fieldSelector", ""),
        limit=max(_integer(query, "limit") or 0, 0),
        continue_=query.get("continue", ""),
        revision=parse_revision(query.get("resourceVersion", "")),
        match=Match(given) if given in tuple(Match) else Match.UNSET,
        timeout=_integer(query, "timeoutSeconds"),
        bookmarks=is_true(query.get("allowWatchBookmarks", "")),
        initial_events=None if initial is None else is_true(initial),
    )
    errors = _watch_errors(options, given) if watch else _list_errors(options, given)
    if errors:
        raise status.invalid(_KIND, "", errors)
    return options


def parse_revision(text: str) -> int | None:
    """A resourceVersion given by a client; None for none. Raises ApiError (400)."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        reason = f'strconv.ParseUint: parsing "{text}": invalid syntax'
        raise status.bad_request(f"invalid resource version: {field.invalid('resourceVersion', text, reason)}")
    if len(text.lstrip("0")) > _MAX_DIGITS:
        reason = f'strconv.ParseUint: parsing "{text}": value out of range'
        raise status.bad_request(f"invalid resource version: {field.invalid('resourceVersion', text, reason)}")
    return int(text.lstrip("0") or "0")


def encode_token(revision: int, start: str) -> str:
    """A continue token, as upstream's. start: the next key, without the prefix of the resource."""
    token = msgspec.json.encode(_Token(_TOKEN_VERSION, revision, start))
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def decode_token(text: str) -> tuple[int, str]:
    """Revision (-1: the newest) and start of a continue token. Raises ApiError (400)."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        token = msgspec.json.decode(data, type=_Token)
    except (ValueError, msgspec.MsgspecError) as error:
        raise status.bad_request(f"continue key is not valid: {error}") from error
    if token.version != _TOKEN_VERSION or token.revision == 0 or not token.start:
        raise status.bad_request(
            f'continue key is not valid: server does not recognize this encoded version "{token.version}"'
        )
    return token.revision, token.start


def _list_errors(options: Options, match: str) -> list[FieldError]:
    errors = []
    if match:
        if options.revision is None:
            errors.append(_match_forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"))
        if options.continue_:
            errors.append(_match_forbidden("resourceVersionMatch is forbidden when continue is provided"))
        if match not in (Match.EXACT, Match.NOT_OLDER):
            errors.append(field.not_supported("resourceVersionMatch", match, ("Exact", "NotOlderThan", "")))
        if match == Match.EXACT and options.revision == 0:
            errors.append(_match_forbidden('resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))
    if options.initial_events is not None:
        errors.append(field.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return errors


def _watch_errors(options: Options, match: str) -> list[FieldError]:
    errors = []
    if match and options.initial_events is None:
        errors.append(
            _match_forbidden("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
        )
    if options.initial_events is not None and match != Match.NOT_OLDER:
        if match:
            errors.append(field.not_supported("resourceVersionMatch", match, ("NotOlderThan",)))
        else:
            errors.append(_match_forbidden("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
    return errors


def _match_forbidden(detail: str) -> FieldError:
    return field.forbidden("resourceVersionMatch", detail)


def _integer(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    try:
        return go.parse_int(text)
    except ValueError as error:
        raise status.bad_request(f"unable to convert query parameter {name}: {error}") from None
