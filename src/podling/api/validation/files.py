"""Paths inside volumes and file modes."""

from __future__ import annotations

from podling.api import field
from podling.api.field import FieldError, Path

_MODE = "must be a number between 0 and 0777 (octal), both inclusive"


def no_backsteps(value: str, path: Path, errors: list[FieldError]) -> None:
    if ".." in value and ".." in value.split("/"):
        errors.append(field.invalid(path, value, "must not contain '..'"))


def local_descending(value: str, path: Path, errors: list[FieldError]) -> None:
    """Relative and without `..` elements."""
    if value.startswith("/"):
        errors.append(field.invalid(path, value, "must be a relative path"))
    no_backsteps(value, path, errors)


def local_not_reserved(value: str, path: Path, errors: list[FieldError]) -> None:
    """As local_descending; names that start with `..` belong to the atomic writer of volumes."""
    local_descending(value, path, errors)
    if value.startswith("..") and not value.startswith("../"):
        errors.append(field.invalid(path, value, "must not start with '..'"))


def file_mode(value: int | None, path: Path, errors: list[FieldError]) -> None:
    if value is not None and not 0 <= value <= 0o777:
        errors.append(field.invalid(path, value, _MODE))
