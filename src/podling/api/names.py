"""Syntax of names and values. Every check returns upstream's messages, none for a good value.

Source: k8s.io/apimachinery/pkg/util/validation and pkg/api/validate/content.
"""

from __future__ import annotations

import re

from podling.api import utf8

LABEL_MAX = 63
SUBDOMAIN_MAX = 253

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with"
    " an alphanumeric character"
)
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and"
    " end with an alphanumeric character"
)
_LABEL_UNDERSCORE = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_UNDERSCORE = rf"{_LABEL_UNDERSCORE}(\.{_LABEL_UNDERSCORE})*"
_SUBDOMAIN_UNDERSCORE_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start"
    " and end with an alphanumeric character"
)
_WILDCARD = rf"\*\.{_SUBDOMAIN}"
_WILDCARD_TEXT = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower"
    " case alphanumeric characters, '-' or '.' and end with an alphanumeric character"
)
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_LABEL_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character,"
    " and end with an alphanumeric character"
)
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_QUALIFIED_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)
_LABEL_VALUE = f"({_QUALIFIED})?"
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and"
    " end with an alphanumeric character"
)
_ENV_NAME = "[-._a-zA-Z][-._a-zA-Z0-9]*"
_ENV_NAME_TEXT = (
    "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not"
    " start with a digit"
)
_RELAXED_ENV_NAME_TEXT = (
    "a valid environment variable name must consist only of printable ASCII characters other than '='"
)
_C_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
_C_IDENTIFIER_TEXT = (
    "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters"
    " or '_'"
)
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_CONFIG_KEY_TEXT = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
_HTTP_HEADER = "[-A-Za-z0-9]+"
_HTTP_HEADER_TEXT = "a valid HTTP header must consist of alphanumeric characters or '-'"
_PERCENT = "[0-9]+%"
_PERCENT_TEXT = "a valid percent string must be a numeric string followed by an ending '%'"


def _mismatch(text: str, pattern: str, *examples: str) -> str:
    if not examples:
        return f"{text} (regex used for validation is '{pattern}')"
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{text} (e.g. {shown}regex used for validation is '{pattern}')"


def _matches(pattern: str, value: str) -> bool:
    return re.fullmatch(pattern, value) is not None


def _size(value: str) -> int:
    return len(value) if value.isascii() else len(utf8.encoded(value))


def _too_long(maximum: int) -> str:
    return f"must be no more than {maximum} characters"


def _too_many_bytes(maximum: int) -> str:
    return f"must be no more than {maximum} bytes"


def in_range(value: int, low: int, high: int) -> list[str]:
    """An integer of an inclusive range."""
    return [] if low <= value <= high else [f"must be between {low} and {high}, inclusive"]


def dns1123_label(value: str) -> list[str]:
    """A label of a domain name: at most 63 of a-z, 0-9 and inner hyphens."""
    errors = [_too_long(LABEL_MAX)] if _size(value) > LABEL_MAX else []
    if not _matches(_LABEL, value):
        if _matches(_SUBDOMAIN, value):
            errors.append("must not contain dots")
        else:
            errors.append(_mismatch(_LABEL_TEXT, _LABEL, "my-name", "123-abc"))
    return errors


def dns1123_subdomain(value: str) -> list[str]:
    """Labels joined by dots, at most 253 characters together."""
    errors = [_too_long(SUBDOMAIN_MAX)] if _size(value) > SUBDOMAIN_MAX else []
    if not _matches(_SUBDOMAIN, value):
        errors.append(_mismatch(_SUBDOMAIN_TEXT, _SUBDOMAIN, "example.com"))
    return errors


def dns1123_subdomain_with_underscore(value: str) -> list[str]:
    """A subdomain whose labels may hold underscores (searches of a Pod's DNS configuration)."""
    errors = [_too_long(SUBDOMAIN_MAX)] if _size(value) > SUBDOMAIN_MAX else []
    if not _matches(_SUBDOMAIN_UNDERSCORE, value):
        errors.append(_mismatch(_SUBDOMAIN_UNDERSCORE_TEXT, _SUBDOMAIN_UNDERSCORE, "example.com"))
    return errors


def wildcard_dns1123_subdomain(value: str) -> list[str]:
    """A subdomain after "*."."""
    errors = [_too_long(SUBDOMAIN_MAX)] if _size(value) > SUBDOMAIN_MAX else []
    if not _matches(_WILDCARD, value):
        errors.append(_mismatch(_WILDCARD_TEXT, _WILDCARD, "*.example.com"))
    return errors


def dns1035_label(value: str) -> list[str]:
    """A label that starts with a letter (names of Services)."""
    errors = [_too_long(LABEL_MAX)] if _size(value) > LABEL_MAX else []
    if not _matches(_LABEL_1035, value):
        errors.append(_mismatch(_LABEL_1035_TEXT, _LABEL_1035, "my-name", "abc-123"))
    return errors


def qualified_name(value: str) -> list[str]:
    """A label key: a name of at most 63 characters, maybe after a subdomain and a slash."""
    prefix, slash, name = value.partition("/")
    mismatch = _mismatch(_QUALIFIED_TEXT, _QUALIFIED, "MyName", "my.name", "123-abc")
    errors: list[str] = []
    if not slash:
        name = prefix
    elif "/" in name:
        return [
            f"a valid label key {mismatch} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    elif not prefix:
        errors.append("prefix part must be non-empty")
    else:
        errors.extend(f"prefix part {message}" for message in dns1123_subdomain(prefix))
    if not name:
        errors.append("name part must be non-empty")
    elif _size(name) > LABEL_MAX:
        errors.append(f"name part {_too_many_bytes(LABEL_MAX)}")
    if not _matches(_QUALIFIED, name):
        errors.append(f"name part {mismatch}")
    return errors


def label_value(value: str) -> list[str]:
    """A label's value: empty, or like a key without prefix."""
    errors = [_too_many_bytes(LABEL_MAX)] if _size(value) > LABEL_MAX else []
    if not _matches(_LABEL_VALUE, value):
        errors.append(_mismatch(_LABEL_VALUE_TEXT, _LABEL_VALUE, "MyValue", "my_value", "12345"))
    return errors


def env_var_name(value: str) -> list[str]:
    """A conservative name of an environment variable."""
    errors: list[str] = []
    if not _matches(_ENV_NAME, value):
        errors.append(_mismatch(_ENV_NAME_TEXT, _ENV_NAME, "my.env-name", "MY_ENV.NAME", "MyEnvName1"))
    return errors + _parent_directory(value)


def relaxed_env_var_name(value: str) -> list[str]:
    """A name of an environment variable as Pods may have it: printable ASCII without "="."""
    if not value:
        return ["environment variable name must be non-empty"]
    return [] if _matches("[ -<>-~]+", value) else [_RELAXED_ENV_NAME_TEXT]


def c_identifier(value: str) -> list[str]:
    """An identifier of the language C."""
    return (
        []
        if _matches(_C_IDENTIFIER, value)
        else [_mismatch(_C_IDENTIFIER_TEXT, _C_IDENTIFIER, "my_name", "MY_NAME", "MyName")]
    )


def config_map_key(value: str) -> list[str]:
    """A key of a ConfigMap or Secret: a file name."""
    errors = [_too_long(SUBDOMAIN_MAX)] if _size(value) > SUBDOMAIN_MAX else []
    if not _matches(_CONFIG_KEY, value):
        errors.append(_mismatch(_CONFIG_KEY_TEXT, _CONFIG_KEY, "key.name", "KEY_NAME", "key-name"))
    return errors + _parent_directory(value)


def http_header_name(value: str) -> list[str]:
    """A name of an HTTP header."""
    return [] if _matches(_HTTP_HEADER, value) else [_mismatch(_HTTP_HEADER_TEXT, _HTTP_HEADER, "X-Header-Name")]


def percent(value: str) -> list[str]:
    """A whole number and a percent sign."""
    return [] if _matches(_PERCENT, value) else [_mismatch(_PERCENT_TEXT, _PERCENT, "1%", "93%")]


def port_number(value: int) -> list[str]:
    """A port, 1 to 65535."""
    return in_range(value, 1, 65535)


def port_name(value: str) -> list[str]:
    """A name of a port as RFC 6335 has it: at most 15 of a-z, 0-9 and single inner hyphens, at least one letter."""
    errors = [_too_long(15)] if _size(value) > 15 else []
    if not _matches("[-a-z0-9]+", value):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if re.search("[a-z]", value) is None:
        errors.append("must contain at least one letter (a-z)")
    if "--" in value:
        errors.append("must not contain consecutive hyphens")
    if value.startswith("-") or value.endswith("-"):
        errors.append("must not begin or end with a hyphen")
    return errors


def user_id(value: int) -> list[str]:
    """A numeric user."""
    return in_range(value, 0, 2**31 - 1)


def group_id(value: int) -> list[str]:
    """A numeric group."""
    return in_range(value, 0, 2**31 - 1)


def _parent_directory(value: str) -> list[str]:
    if value in (".", ".."):
        return [f"must not be '{value}'"]
    return ["must not start with '..'"] if value.startswith("..") else []
