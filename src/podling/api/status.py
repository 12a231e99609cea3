"""The errors of the API: an exception that carries a Status, and one builder per reason.

Codes, reasons, messages and details are those of k8s.io/apimachinery/pkg/api/errors. `resource` is a Resource of the
scheme or, for what is not there, a qualified name ("leases.coordination.k8s.io"); `kind` likewise.
"""

from __future__ import annotations

from collections.abc import Iterable

from podling.api import field
from podling.api.field import FieldError
from podling.api.go import quote
from podling.api.meta.v1 import Status, StatusCause, StatusDetails
from podling.api.scheme import Resource

_UNPROCESSABLE = "the server rejected our request due to an error in our request"
MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


class ApiError(Exception):
    """A request failed. `status` is the body of the answer, `warnings` are sent beside it."""

    def __init__(self, status: Status, warnings: tuple[str, ...] = ()) -> None:
        super().__init__(status.message)
        self.status = status
        self.warnings = warnings

    @property
    def code(self) -> int:
        """The HTTP status."""
        return self.status.code or 500

    @property
    def reason(self) -> str:
        return self.status.reason


def _error(code: int, reason: str, message: str, details: StatusDetails | None = None) -> ApiError:
    return ApiError(Status(status="Failure", code=code, reason=reason, message=message, details=details))


def _qualified(resource: Resource | str) -> str:
    return resource if isinstance(resource, str) else resource.qualified


def _details(resource: Resource | str, name: str = "", retry_after: int = 0) -> StatusDetails:
    kind, _, group = _qualified(resource).partition(".")
    return StatusDetails(group=group, kind=kind, name=name, retry_after_seconds=retry_after)


def success(resource: Resource | str, name: str, uid: str) -> Status:
    """The answer to a deletion that left nothing to show."""
    details = _details(resource, name)
    details.uid = uid
    return Status(status="Success", details=details)


def not_found(resource: Resource | str, name: str) -> ApiError:
    return _error(404, "NotFound", f"{_qualified(resource)} {quote(name)} not found", _details(resource, name))


def no_route() -> ApiError:
    """No such path or resource."""
    return _error(404, "NotFound", "the server could not find the requested resource", StatusDetails())


def not_implemented(what: str, *, stream: bool = False) -> ApiError:
    """A part of Kubernetes that is missing here; clients go on as with an older server that lacks it."""
    message = f"{what} is not implemented by Podling yet"
    if stream:
        return _error(501, "NotImplemented", message, StatusDetails())
    return _error(404, "NotFound", f"the server could not find the requested resource: {message}", StatusDetails())


def already_exists(resource: Resource | str, name: str) -> ApiError:
    return _error(
        409, "AlreadyExists", f"{_qualified(resource)} {quote(name)} already exists", _details(resource, name)
    )


def generate_name_conflict(resource: Resource | str, name: str, retry_after: int = 1) -> ApiError:
    """Every name tried for a generateName was taken."""
    cause = "already exists, the server was not able to generate a unique name for the object"
    message = f"{_qualified(resource)} {quote(name)} {cause}"
    return _error(409, "AlreadyExists", message, _details(resource, name, retry_after))


def conflict(resource: Resource | str, name: str, reason: str = MODIFIED) -> ApiError:
    """`reason` defaults to that of an outdated resourceVersion."""
    message = f"Operation cannot be fulfilled on {_qualified(resource)} {quote(name)}: {reason}"
    return _error(409, "Conflict", message, _details(resource, name))


def apply_conflict(causes: list[StatusCause], message: str) -> ApiError:
    """Server-side apply would take fields from other managers."""
    return _error(409, "Conflict", message, StatusDetails(causes=causes))


def unauthorized(reason: str = "Unauthorized") -> ApiError:
    return _error(401, "Unauthorized", reason)


def forbidden(resource: Resource | str, name: str, reason: str) -> ApiError:
    """`resource` and `name` may be empty, for requests that are about none."""
    if not resource:
        message = f"forbidden: {reason}"
    elif not name:
        message = f"{_qualified(resource)} is forbidden: {reason}"
    else:
        message = f"{_qualified(resource)} {quote(name)} is forbidden: {reason}"
    return _error(403, "Forbidden", message, _details(resource, name))


def gone(message: str) -> ApiError:
    return _error(410, "Gone", message)


def expired(message: str) -> ApiError:
    """A resourceVersion or continue token is too old."""
    return _error(410, "Expired", message)


def too_old_resource_version(asked: int, oldest: int) -> ApiError:
    """A watch from a revision that is compacted."""
    return expired(f"too old resource version: {asked} ({oldest})")


def too_large_resource_version(asked: int, current: int, retry_after: int = 1) -> ApiError:
    """A list or watch from a revision that is yet to come."""
    message = f"Too large resource version: {asked}, current: {current}"
    error = timeout(message, retry_after)
    assert error.status.details is not None
    error.status.details.causes = [StatusCause(reason="ResourceVersionTooLarge", message="Too large resource version")]
    return error


def invalid(kind: Resource | str, name: str, errors: Iterable[FieldError]) -> ApiError:
    """The object is well-formed but wrong; every error becomes a cause."""
    found = list(errors)
    kind = kind if isinstance(kind, str) else kind.qualified_kind
    message = f"{kind} {quote(name)} is invalid"
    if found:
        message += f": {field.messages(found)}"
    details = _details(kind, name)
    details.causes = [StatusCause(reason=error.type, message=error.body, field=str(error.field)) for error in found]
    return _error(422, "Invalid", message, details)


def unprocessable(message: str) -> ApiError:
    """A well-formed patch that does not fit the object. Upstream keeps the reason to itself."""
    error = _error(422, "Invalid", _UNPROCESSABLE, StatusDetails())
    error.add_note(message)
    return error


def unexpected(message: str) -> ApiError:
    """An error for which upstream has no reason."""
    return _error(500, "", message)


def bad_request(message: str) -> ApiError:
    return _error(400, "BadRequest", message)


def method_not_supported(resource: Resource | str, action: str) -> ApiError:
    message = f"{action} is not supported on resources of kind {quote(_qualified(resource))}"
    return _error(405, "MethodNotAllowed", message, _details(resource))


def not_acceptable(accepted: Iterable[str]) -> ApiError:
    """The client accepts none of the media types that there are."""
    return _error(406, "NotAcceptable", f"only the following media types are accepted: {', '.join(accepted)}")


def unsupported_media_type(
    accepted: Iterable[str], problem: str = "the body of the request was in an unknown format"
) -> ApiError:
    message = f"{problem} - accepted media types include: {', '.join(accepted)}"
    return _error(415, "UnsupportedMediaType", message)


def unsupported_content_encoding(encoding: str) -> ApiError:
    """The body of the request is compressed. Upstream does not unpack bodies either, but calls them malformed."""
    message = f"a body with Content-Encoding {encoding[:30]} is not supported: send it uncompressed"
    return _error(415, "UnsupportedMediaType", message)


def request_entity_too_large(message: str) -> ApiError:
    return _error(413, "RequestEntityTooLarge", f"Request entity is too large: {message}")


def too_many_requests(message: str, retry_after: int = 0) -> ApiError:
    """Also the answer to an eviction that a disruption budget forbids."""
    return _error(429, "TooManyRequests", message, StatusDetails(retry_after_seconds=retry_after))


def internal(message: str) -> ApiError:
    details = StatusDetails(causes=[StatusCause(message=message)])
    return _error(500, "InternalError", f"Internal error occurred: {message}", details)


def storage_read_error(resource: Resource | str, name: str, message: str) -> ApiError:
    """What is stored cannot be read."""
    return _error(500, "StorageReadError", message, _details(resource, name))


def server_timeout(resource: Resource | str, operation: str, retry_after: int = 0) -> ApiError:
    """The operation may be tried again."""
    what = f"The {operation} operation against {_qualified(resource)}"
    message = f"{what} could not be completed at this time, please try again."
    return _error(500, "ServerTimeout", message, _details(resource, operation, retry_after))


def service_unavailable(message: str) -> ApiError:
    return _error(503, "ServiceUnavailable", message)


def timeout(message: str, retry_after: int = 0) -> ApiError:
    return _error(504, "Timeout", f"Timeout: {message}", StatusDetails(retry_after_seconds=retry_after))
