"""How Go prints values: for messages that have to read as upstream's."""

from __future__ import annotations

import re

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
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_INTEGER = re.compile(r"([-+]?)0*([0-9]+)\Z", re.ASCII)


def parse_int(text: str, bits: int = 64) -> int:
    """What strconv.ParseInt reads in base 10. Raises ValueError in its words."""
    problem = "invalid syntax"
    if match := _INTEGER.match(text):
        # Python refuses to read numbers of thousands of digits.
        number = int(match[1] + match[2]) if len(match[2]) <= 20 else 1 << 64
        if -(1 << (bits - 1)) <= number < 1 << (bits - 1):
            return number
        problem = "value out of range"
    raise ValueError(f"strconv.ParseInt: parsing {quote(text)}: {problem}")


def quote_time(text: str) -> str:
    """A string as the package time quotes it: bytes beyond printable ASCII in hexadecimal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(chr(byte) if 0x20 <= byte < 0x80 else f"\\x{byte:02x}" for byte in escaped.encode()) + '"'


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
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")


def parse_duration(text: str) -> float:
    """Seconds of what time.ParseDuration reads: "12h", "1m30s", "-5s", "0". Raises ValueError in its words."""
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    total, at = 0.0, 0
    while at < len(rest) and (part := _DURATION_PART.match(rest, at)):
        total += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    if not rest or at < len(rest):
        raise ValueError(f"time: invalid duration {quote(text)}")
    return sign * total
