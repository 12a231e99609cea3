"""The options of list and watch: what they mean and which of them contradict each other."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from enum import StrEnum

import msgspec
from msgspec import Struct

from podling.api import codec, field, fields, go, labels, status
from podling.api.field import FieldError
from podling.apiserver import parameters
from podling.kit import document_error

_KIND = "ListOptions.meta.k8s.io"
_TOKEN_VERSION = "meta.k8s.io/v1"
_BASE64_URL = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_WITH_CONTINUE = "resourceVersionMatch is forbidden when continue is provided"
_UNUSABLE = "invalid continue token: continue key is not valid"

TOO_OLD = "The resourceVersion for the provided list is too old."
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


class _Given(Struct):
    """What the rules about versions compare, as the client wrote it."""

    version: str
    match: str
    continue_: str
    initial_events: bool | None


class _Token(Struct, rename={"version": "v", "revision": "rv"}):
    version: str = ""
    revision: int = 0
    start: str = ""


def parse(query: Mapping[str, str], *, watch: bool) -> Options:
    """Raises ApiError: 400 for what cannot be read, then 422 for what does not go together, then 400 for the version."""
    timeout, limit = parameters.integer(query, "timeoutSeconds"), parameters.integer(query, "limit")
    given = _Given(
        version=query.get("resourceVersion", ""),
        match=query.get("resourceVersionMatch", ""),
        continue_=query.get("continue", ""),
        initial_events=parameters.optional_flag(query, "sendInitialEvents"),
    )
    if watch and given.initial_events is None and not given.match and given.version in ("", "0"):
        given.initial_events, given.match = True, Match.NOT_OLDER
    label_selector, field_selector = query.get("labelSelector", ""), query.get("fieldSelector", "")
    errors = _watch_errors(given) if watch else _list_errors(given)
    if errors:
        _check_selectors(label_selector, field_selector)
        raise status.invalid(_KIND, "", errors)
    return Options(
        label_selector=label_selector,
        field_selector=field_selector,
        limit=max(limit or 0, 0),
        continue_=given.continue_,
        revision=parse_revision(given.version),
        match=Match(given.match),
        timeout=timeout,
        bookmarks=parameters.flag(query, "allowWatchBookmarks"),
        initial_events=given.initial_events,
    )


def parse_revision(text: str) -> int | None:
    """A resourceVersion given by a client; None for none. Raises ApiError (400)."""
    if not text:
        return None
    try:
        return go.parse_uint(text)
    except ValueError as error:
        problem = field.invalid("resourceVersion", text, str(error))
        raise status.bad_request(f"invalid resource version: {problem}") from None


def encode_token(revision: int, start: str) -> str:
    """A continue token, as upstream's. start: the next key, without the prefix of the resource."""
    token = msgspec.json.encode(_Token(_TOKEN_VERSION, revision, start))
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def decode_token(text: str) -> tuple[int, str]:
    """Revision (-1: the newest) and start of a continue token. Raises ApiError (400)."""
    try:
        token = msgspec.convert(codec.decode_json(_decoded(text)), _Token)
    except (ValueError, msgspec.MsgspecError) as error:
        raise status.bad_request(f"{_UNUSABLE}: {document_error.reason(error)}") from error
    start = token.start.removeprefix("/")
    problem = ""
    if token.version != _TOKEN_VERSION:
        problem = f"server does not recognize this encoded version {token.version}"
    elif token.revision == 0:
        problem = f"incorrect encoded start resourceVersion (version {_TOKEN_VERSION})"
    elif not token.start:
        problem = f"encoded start key empty (version {_TOKEN_VERSION})"
    elif not {"", ".", ".."}.isdisjoint(start.split("/")):  # it would lead out of the resource
        problem = token.start
    if problem:
        raise status.bad_request(f"{_UNUSABLE}: {problem}")
    return token.revision, start


def _decoded(text: str) -> bytes:
    """Return the bytes of base64 for URLs, without padding. Raises ValueError in Go's words."""
    for position, char in enumerate(text):
        if char not in _BASE64_URL and char not in "\r\n":
            raise ValueError(f"illegal base64 data at input byte {position}")
    digits = text.replace("\r", "").replace("\n", "")
    if len(digits) % 4 == 1:
        raise ValueError(f"illegal base64 data at input byte {len(text) - 1}")
    return base64.urlsafe_b64decode(digits + "=" * (-len(digits) % 4))


def _check_selectors(label_selector: str, field_selector: str) -> None:
    """Raises ApiError (400) for selectors that cannot be read."""
    try:
        labels.parse(label_selector)
        fields.parse(field_selector)
    except ValueError as error:
        raise status.bad_request(str(error)) from None


def _list_errors(given: _Given) -> list[FieldError]:
    errors, match = [], given.match
    if match:
        if not given.version:
            errors.append(_match_forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"))
        if given.continue_:
            errors.append(_match_forbidden(_WITH_CONTINUE))
        if match not in (Match.EXACT, Match.NOT_OLDER):
            errors.append(field.not_supported("resourceVersionMatch", match, ("Exact", "NotOlderThan", "")))
        if match == Match.EXACT and given.version == "0":
            errors.append(_match_forbidden('resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))
    if given.initial_events is not None:
        errors.append(field.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return errors


def _watch_errors(given: _Given) -> list[FieldError]:
    errors, match = [], given.match
    if given.initial_events is not None and match != Match.NOT_OLDER:
        errors.append(_match_forbidden("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
    if match:
        if given.initial_events is None:
            errors.append(
                _match_forbidden("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
            )
        if match != Match.NOT_OLDER:
            errors.append(field.not_supported("resourceVersionMatch", match, ("NotOlderThan",)))
        if given.continue_:
            errors.append(_match_forbidden(_WITH_CONTINUE))
    return errors


def _match_forbidden(detail: str) -> FieldError:
    return field.forbidden("resourceVersionMatch", detail)
