"""How Go prints values: for messages that have to read as upstream's."""

from __future__ import annotations

import re

from podling.api import utf8

_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    '"': '\\"',
    "\\": "\\\\",
}


def quote(text: str) -> str:
    """A Go string literal, as the verb %q prints it."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(map(_escape, text)) + '"'


def _escape(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as os.fsdecode keeps it
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_INTEGER = re.compile(r"([-+]?)0*([0-9]+)\Z", re.ASCII)
_UNSIGNED = re.compile(r"()0*([0-9]+)\Z", re.ASCII)


def parse_int(text: str, bits: int = 64) -> int:
    """What strconv.ParseInt reads in base 10. Raises ValueError in its words."""
    return _parse("ParseInt", text, _INTEGER, -(1 << (bits - 1)), 1 << (bits - 1))


def parse_uint(text: str) -> int:
    """What strconv.ParseUint reads in base 10, as 64 bits. Raises ValueError in its words."""
    return _parse("ParseUint", text, _UNSIGNED, 0, 1 << 64)


def _parse(function: str, text: str, pattern: re.Pattern[str], least: int, end: int) -> int:
    problem = "invalid syntax"
    if match := pattern.match(text):
        # Python refuses to read numbers of thousands of digits.
        number = int(match[1] + match[2]) if len(match[2]) <= 20 else end
        if least <= number < end:
            return number
        problem = "value out of range"
    raise ValueError(f"strconv.{function}: parsing {quote(text)}: {problem}")


def quote_time(text: str) -> str:
    """A string as the package time quotes it: bytes beyond printable ASCII in hexadecimal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    data = utf8.encoded(escaped)
    return '"' + "".join(chr(byte) if 0x20 <= byte < 0x80 else f"\\x{byte:02x}" for byte in data) + '"'


def human_duration(seconds: float) -> str:
    """A duration in at most two units, less exact the longer it is: "90s", "5m3s", "7h12m", "3d4h", "400d"."""
    if seconds <= -2:
        return "<invalid>"
    total = max(int(seconds), 0)
    if total < 120:
        return f"{total}s"
    minutes, hours = total // 60, total // 3600
    if minutes < 10:
        return _two(minutes, "m", total % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 2 * 365:
        return f"{days}d"
    if days < 8 * 365:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def duration(seconds: float) -> str:
    """As time.Duration prints itself, to the millisecond: "850ms", "1.234s", "2m3.5s", "1h0m0s"."""
    milliseconds = int(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    whole, fraction = divmod(rest, 1000)
    text = f"{whole}.{fraction:03d}".rstrip("0").rstrip(".") + "s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_NUMBER = re.compile(r"\d+\.?\d*|\.\d+", re.ASCII)
_DURATION_UNIT = re.compile(r"[^.\d]*", re.ASCII)
_LONGEST = (1 << 63) / 1e9


def parse_duration(text: str) -> float:
    """Seconds of what time.ParseDuration reads: "12h", "1m30s", "-5s", "0". Raises ValueError in its words."""
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    total, at = 0.0, 0
    while at < len(rest) and (number := _DURATION_NUMBER.match(rest, at)):
        unit = _DURATION_UNIT.match(rest, number.end())
        assert unit is not None
        if unit[0] not in _UNITS:
            problem = f"unknown unit {quote_time(unit[0])}" if unit[0] else "missing unit"
            raise ValueError(f"time: {problem} in duration {quote_time(text)}")
        total += float(number[0]) * _UNITS[unit[0]]
        at = unit.end()
    if not rest or at < len(rest) or total >= _LONGEST:
        raise ValueError(f"time: invalid duration {quote_time(text)}")
    return sign * total
