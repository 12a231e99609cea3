"""Resource quantities: fixed-point numbers with SI, binary or exponent suffixes ("500m", "128Mi", "1e3").

Grammar, rounding and canonical form are those of k8s.io/apimachinery/pkg/api/resource: nothing smaller than a billionth
is kept (non-zero values are rounded away from zero), and a quantity prints in the suffix family it was written in.
"""

from __future__ import annotations

import re
from enum import Enum
from fractions import Fraction
from functools import total_ordering

from podling.kit.short_cache import short_cache

NANO = 10**9
_MAX_BINARY = (2**63 - 1) * NANO

_GRAMMAR = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([eEinumkKMGTP]*[-+]?[0-9]*)\Z", re.ASCII)
_FORMAT_WRONG = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_BAD_SUFFIX = "unable to parse quantity's suffix"

_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_NAMES = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_BINARY_NAMES = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
_EXPONENT = re.compile(r"[eE]([-+]?[0-9]+)\Z", re.ASCII)
# A bigger exponent than this is far beyond every quantity and only costs memory.
_MAX_EXPONENT = 400
_MAX_DIGITS = 4000
"""More are no number that anybody needs; Python refuses to read 4301 of them."""


class Format(Enum):
    """The family of suffixes in which a quantity prints."""

    DECIMAL_SI = "DecimalSI"
    BINARY_SI = "BinarySI"
    DECIMAL_EXPONENT = "DecimalExponent"


def _divide_away_from_zero(numerator: int, denominator: int) -> int:
    quotient = -(-abs(numerator) // denominator)
    return quotient if numerator >= 0 else -quotient


@short_cache(2048)
def _parse(text: str) -> tuple[int, Format]:
    match = _GRAMMAR.match(text)
    if match is None:
        raise ValueError(_FORMAT_WRONG)
    number, suffix = match.groups()
    if len(number) > _MAX_DIGITS or len(suffix) > _MAX_DIGITS:
        raise ValueError(f"quantities have at most {_MAX_DIGITS} digits")
    if suffix in _DECIMAL:
        scale, form = Fraction(10) ** _DECIMAL[suffix], Format.DECIMAL_SI
    elif suffix in _BINARY:
        scale, form = Fraction(2 ** _BINARY[suffix]), Format.BINARY_SI
    elif (exponent := _EXPONENT.match(suffix)) and abs(int(exponent[1])) <= _MAX_EXPONENT:
        scale, form = Fraction(10) ** int(exponent[1]), Format.DECIMAL_EXPONENT
    else:
        raise ValueError(_BAD_SUFFIX)
    exact = Fraction(number.rstrip(".") or "0") * scale * NANO
    nanos = _divide_away_from_zero(exact.numerator, exact.denominator)
    if form is Format.BINARY_SI:
        nanos = max(-_MAX_BINARY, min(_MAX_BINARY, nanos))
        if 0 < abs(nanos) < NANO:
            form = Format.DECIMAL_SI
    return nanos, form


@total_ordering
class Quantity:
    """An immutable quantity. `Quantity()` is zero; numbers compare, add and subtract exactly.

    Equality, order and hash look at the number alone: Quantity("1") == Quantity("1000m").
    """

    __slots__ = ("_nanos", "format")

    _nanos: int
    format: Format

    def __init__(self, value: str | int | float | Quantity = 0, format: Format | None = None) -> None:
        """Parse `value`. Raises ValueError with upstream's text. `format` overrides the family of suffixes."""
        if isinstance(value, str):
            nanos, parsed = _parse(value)
        elif isinstance(value, Quantity):
            nanos, parsed = value._nanos, value.format
        elif isinstance(value, int):
            nanos, parsed = value * NANO, Format.DECIMAL_SI
        else:
            nanos, parsed = _parse(repr(value))
        object.__setattr__(self, "_nanos", nanos)
        object.__setattr__(self, "format", format or parsed)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Quantity is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Quantity is immutable")

    @classmethod
    def _of(cls, nanos: int, format: Format) -> Quantity:
        self = cls.__new__(cls)
        object.__setattr__(self, "_nanos", nanos)
        object.__setattr__(self, "format", format)
        return self

    @classmethod
    def from_milli(cls, milli: int, format: Format = Format.DECIMAL_SI) -> Quantity:
        """The quantity of `milli` thousandths."""
        return cls._of(milli * 10**6, format)

    @classmethod
    def from_value(cls, value: int, format: Format = Format.BINARY_SI) -> Quantity:
        """The quantity of `value` units, printed with binary suffixes unless told otherwise (bytes)."""
        return cls._of(value * NANO, format)

    def value(self) -> int:
        """In units, fractions rounded away from zero."""
        return _divide_away_from_zero(self._nanos, NANO)

    def milli_value(self) -> int:
        """In thousandths, smaller fractions rounded away from zero."""
        return _divide_away_from_zero(self._nanos, 10**6)

    def is_zero(self) -> bool:
        return self._nanos == 0

    def sign(self) -> int:
        """-1, 0 or 1."""
        return (self._nanos > 0) - (self._nanos < 0)

    def __str__(self) -> str:
        nanos = self._nanos
        if nanos == 0:
            return "0"
        if self.format is Format.BINARY_SI and abs(nanos) >= 1024 * NANO and nanos % NANO == 0:
            number, power = nanos // NANO, 0
            while number % 1024 == 0 and power < len(_BINARY_NAMES) - 1:
                number, power = number // 1024, power + 1
            return f"{number}{_BINARY_NAMES[power]}"
        exponent = -9
        top = 18 if self.format is not Format.DECIMAL_EXPONENT else _MAX_EXPONENT
        while nanos % 1000 == 0 and exponent < top:
            nanos, exponent = nanos // 1000, exponent + 3
        if self.format is Format.DECIMAL_EXPONENT:
            return f"{nanos}e{exponent}" if exponent else str(nanos)
        return f"{nanos}{_DECIMAL_NAMES[exponent]}"

    def __repr__(self) -> str:
        return f"Quantity({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return self._nanos == other._nanos if isinstance(other, Quantity) else NotImplemented

    def __lt__(self, other: Quantity) -> bool:
        return self._nanos < other._nanos if isinstance(other, Quantity) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._nanos)

    def __bool__(self) -> bool:
        return self._nanos != 0

    def __add__(self, other: Quantity) -> Quantity:
        """The sum. A zero takes the other's suffix family, as upstream."""
        return self._of(self._nanos + other._nanos, self.format if self._nanos else other.format)

    def __sub__(self, other: Quantity) -> Quantity:
        return self._of(self._nanos - other._nanos, self.format if self._nanos else other.format)

    def __neg__(self) -> Quantity:
        return self._of(-self._nanos, self.format)

    def __copy__(self) -> Quantity:
        return self

    def __deepcopy__(self, memo: object) -> Quantity:
        return self

    def __reduce__(self) -> tuple[type[Quantity], tuple[str, Format]]:
        return Quantity, (str(self), self.format)
