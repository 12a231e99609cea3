"""The SQLite file below the store: blocking, called in threads.

One table, the log: a row for every write. The current value of a key is its newest row, so a value is written once.
Compaction up to a revision removes what nobody can ask for any more: rows that another row at or below that revision
replaced, and deletions at or below it. Every row is found by its primary key; no other index exists.

The writer's methods (commit, maintain) and the reader's (read, checkpoint) use two connections and may run in two
threads at the same time, one call each; WAL readers see a snapshot and never hold the writer up.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from msgspec import Struct

from podling.kit import file_error
from podling.store.acknowledged import Acknowledged
from podling.store.history import History, Record
from podling.store.protocol import (
    Check,
    Compacted,
    Entry,
    Event,
    EventType,
    StoreError,
    StoreUnavailable,
    Unreadable,
)
from podling.store.reserve import STEP, Reserve
from podling.store.retention import Retention

APPLICATION_ID: Final = 0x506F646C  # "Podl"
SCHEMA_VERSION: Final = 1
PAGE_BYTES: Final = 4096
CHECKPOINT_BYTES: Final = 4 << 20
"""Written to the WAL before it is copied into the database file in the background."""
WAL_LIMIT_BYTES: Final = 16 << 20
"""In the WAL before the writer stops to start it anew. It starts anew by itself when a write finds all of it copied,
which does not happen under a steady load."""
VACUUM_PAGES: Final = 512
"""Pages given back to the file system in one step, and the number of free pages that is worth one."""

SCHEMA: Final = """
CREATE TABLE log (
    revision INTEGER PRIMARY KEY,
    time     INTEGER NOT NULL,
    type     INTEGER NOT NULL,
    former   INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    key      TEXT NOT NULL,
    value    BLOB NOT NULL
) STRICT;
CREATE TABLE compaction (revision INTEGER NOT NULL) STRICT;
INSERT INTO compaction VALUES (0);
"""

TYPES: Final = (EventType.ADDED, EventType.MODIFIED, EventType.DELETED)
CODES: Final = {type: code for code, type in enumerate(TYPES)}


log = logging.getLogger(__name__)


class Loaded(Struct, frozen=True):
    entries: dict[str, Entry]
    unreadable: dict[str, Unreadable]
    revision: int
    compacted: int
    shown_from: int
    """The oldest revision from which nothing unreadable is found."""
    acknowledged: int
    """The newest revision that is known to have been acknowledged."""


class DatabaseLocked(StoreError):
    """Another process has the file open."""


class DatabaseCorrupt(StoreError):
    """The file is not a database of this program, or is damaged."""


def _free_bytes(directory: Path) -> int:
    try:
        disk = os.statvfs(directory)
    except OSError:
        return 1 << 62
    return disk.f_bavail * disk.f_frsize


def _checksum(revision: int, key: str, value: bytes) -> int:
    return zlib.crc32(value, zlib.crc32(key.encode(), revision & 0xFFFFFFFF))


# SQLite's own texts do not say what is to be done.
_WORDS: Final = {
    sqlite3.SQLITE_CANTOPEN: "it is not a file that this process may read and write (unable to open database file)",
    sqlite3.SQLITE_NOTADB: "it is not a database of SQLite; restore it from a copy",
    sqlite3.SQLITE_CORRUPT: "what SQLite reads there is not what it wrote; restore it from a copy",
    sqlite3.SQLITE_BUSY: "another program holds its lock; end that program",
    sqlite3.SQLITE_READONLY: "it cannot be written to; look at its owner, mode and file system",
}


def _words(error: sqlite3.Error) -> str:
    """Return what an error of SQLite means for the file that it is about."""
    return _WORDS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, str(error))


class Database:
    def __init__(self, path: Path, retention: Retention) -> None:
        self._path = path
        self._retention = retention
        self._compacted = 0
        self._uncopied_bytes = 0
        self._wal_bytes = 0
        self._lock = -1
        self._full = False
        """Whether the last write that may not use the reserve found no room."""
        self._reserve = Reserve(path.with_name(path.name + ".reserve"))
        self._connections = ExitStack()

    @property
    def checkpoint_due(self) -> bool:
        return self._uncopied_bytes >= CHECKPOINT_BYTES

    @property
    def files(self) -> tuple[Path, Path]:
        """Those that hold what was acknowledged, as long as the database is open."""
        return self._path, self._wal

    def open(self, history: History, check: Check = lambda entry: "") -> Loaded:
        """Locks, verifies and reads the file, made if it does not exist; fills `history` with the newest events.

        `check` is called for every value. What it finds fault with is kept apart from the entries.
        Raises DatabaseLocked, DatabaseCorrupt, or StoreError if the file system does not let us.
        """
        try:
            self._acquire_lock()
            try:
                self._acknowledged = Acknowledged(self._path.with_name(self._path.name + ".revision"))
                self._connections.callback(self._acknowledged.close)
                self._connect()
                return self._load(history, check)
            except BaseException:
                self.close()
                raise
        except sqlite3.OperationalError as error:
            raise StoreError(f"{self._path}: {_words(error)}") from error
        except sqlite3.DatabaseError as error:
            raise DatabaseCorrupt(f"{self._path} is damaged: {_words(error)}") from error
        except OSError as error:
            if not self._path.parent.is_dir():  # the file that could not be made there is another
                raise StoreError(f"{self._path}: {error.strerror}") from error
            raise StoreError(file_error.reason(error, self._path)) from error

    def _acquire_lock(self) -> None:
        # Not on the database itself: closing any descriptor of it would drop SQLite's own locks.
        path = self._path.with_name(self._path.name + ".lock")
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 20).decode(errors="replace").strip()
            os.close(lock)
            raise DatabaseLocked(f"{self._path} is in use by process {holder or 'unknown'}") from None
        except BaseException:
            os.close(lock)
            raise
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def _connect(self) -> None:
        if not self._path.exists():
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._writer = self._connections.enter_context(closing(self._new_connection()))
        if self._writer.execute("PRAGMA page_count").fetchone()[0] == 0:
            self._create()
        application = self._writer.execute("PRAGMA application_id").fetchone()[0]
        version = self._writer.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION_ID:
            raise DatabaseCorrupt(f"{self._path} is not a Podling store")
        if version != SCHEMA_VERSION:
            raise DatabaseCorrupt(f"{self._path} has store format {version}; this Podling reads {SCHEMA_VERSION}")
        self._reader = self._connections.enter_context(closing(self._new_connection()))
        for connection in (self._writer, self._reader):
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA busy_timeout = 5000")
            connection.execute("PRAGMA cache_size = -1024")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute(f"PRAGMA journal_size_limit = {CHECKPOINT_BYTES}")

    def _new_connection(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)

    def _create(self) -> None:
        self._writer.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self._writer.execute("PRAGMA journal_mode = WAL")
        self._writer.execute("PRAGMA synchronous = FULL")
        self._writer.executescript(
            f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; {SCHEMA} COMMIT;"
        )
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _load(self, history: History, check: Check) -> Loaded:
        complaint = self._writer.execute("PRAGMA quick_check(1)").fetchone()[0]
        if complaint != "ok":
            raise DatabaseCorrupt(f"{self._path} is damaged: {' '.join(complaint.split())}; restore it from a copy")
        self._compacted = self._writer.execute("SELECT revision FROM compaction").fetchone()[0]
        history.floor = self._compacted
        entries: dict[str, Entry] = {}
        unreadable: dict[str, Unreadable] = {}
        revision = shown_from = self._compacted
        for revision, written, code, former, checksum, key, value in self._writer.execute(
            "SELECT revision, time, type, former, checksum, key, value FROM log ORDER BY revision"
        ):
            if checksum != _checksum(revision, key, value):
                raise DatabaseCorrupt(f"{self._path} is damaged: revision {revision} of {key} has a wrong checksum")
            previous = entries.pop(key, None)
            if key in unreadable:
                previous = unreadable.pop(key).entry
                shown_from = revision
            if revision > self._compacted:
                if former != (previous.revision if previous else 0):
                    raise DatabaseCorrupt(f"{self._path} is damaged: revision {former} of {key} is missing")
                event = Event(TYPES[code], key, value, revision, previous.value if previous else None)
                record = Record(event, previous)
                history.append(record)
                self._retention.add(revision, written, record.size)
            entry = Entry(key, value, revision)
            problem = check(entry)
            if problem:
                shown_from = revision
            if TYPES[code] is EventType.DELETED:
                continue
            if problem:
                unreadable[key] = Unreadable(entry, problem)
            else:
                entries[key] = entry
        acknowledged = max(self._acknowledged.read(), revision)
        return Loaded(entries, unreadable, revision, self._compacted, shown_from, acknowledged)

    def commit(self, records: Sequence[Record], *, from_reserve: bool = False) -> int:
        """Writes all or nothing, durable on return; compacts a little on the way. Returns the compacted revision.

        Raises StoreUnavailable, or what is wrong with the records; nothing is written then.
        """
        now = int(time.time())
        rows = [
            (
                record.event.revision,
                now,
                CODES[record.event.type],
                record.former.revision if record.former else 0,
                _checksum(record.event.revision, record.event.key, record.event.value),
                record.event.key,
                record.event.value,
            )
            for record in records
        ]
        due = self._retention.due(now)
        if not from_reserve:
            self._check_room()
        while True:
            try:
                self._transaction(rows, due)
                break
            except sqlite3.DatabaseError as error:
                if not (from_reserve and self._is_full(error) and self._reserve.give(self._wal)):
                    raise self._unavailable("write to", error) from error
                due = 0
        if not from_reserve:
            self._full = False
        if records:
            self._acknowledged.write(records[-1].event.revision)
        for record in records:
            self._retention.add(record.event.revision, now, record.size)
            self._grown(record.size + PAGE_BYTES)
        if self._wal_bytes > WAL_LIMIT_BYTES:
            self._restart_wal()
        return self._compacted

    def _transaction(self, rows: Sequence[tuple[int, int, int, int, int, str, bytes]], compact: int) -> None:
        connection = self._writer
        connection.execute("BEGIN IMMEDIATE")
        try:
            if rows:
                connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            if compact:
                span = (self._compacted, compact)
                connection.execute(
                    "DELETE FROM log WHERE revision IN"
                    " (SELECT former FROM log WHERE revision > ? AND revision <= ? AND former > 0)",
                    span,
                )
                connection.execute(
                    f"DELETE FROM log WHERE revision > ? AND revision <= ? AND type = {CODES[EventType.DELETED]}", span
                )
                connection.execute("UPDATE compaction SET revision = ?", (compact,))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        if compact:
            self._compacted = compact
            self._retention.compacted(compact)

    def probe(self) -> None:
        """A write that changes nothing. Raises StoreUnavailable."""
        self._check_room()
        try:
            self._writer.execute("UPDATE compaction SET revision = revision")
        except sqlite3.DatabaseError as error:
            raise self._unavailable("write to", error) from error
        self._full = False

    def _check_room(self) -> None:
        """On a full disk there may be room in the WAL: what the reserve gave for deletions. Raises StoreUnavailable."""
        if self._full and _free_bytes(self._path.parent) < STEP:
            raise self._no_room("write to")

    def fill_reserve(self) -> bool:
        """Returns whether the space for deletions is all there."""
        return self._reserve.fill()

    def _is_full(self, error: sqlite3.Error) -> bool:
        code = getattr(error, "sqlite_errorcode", 0)
        if code == sqlite3.SQLITE_FULL:
            return True
        # What grows beside the database, as the index of the WAL, fails with an error of another name.
        return code & 0xFF == sqlite3.SQLITE_IOERR and _free_bytes(self._path.parent) < PAGE_BYTES * 16

    def _unavailable(self, what: str, error: sqlite3.Error) -> StoreUnavailable:
        if self._is_full(error):
            self._full = True
            return self._no_room(what)
        name = getattr(error, "sqlite_errorname", "")
        reason = f"the disk of {self._path.parent} fails: {error}" + (f" ({name})" if name else "")
        return StoreUnavailable(f"cannot {what} the store: {reason}")

    def _no_room(self, what: str) -> StoreUnavailable:
        where = self._path.parent
        return StoreUnavailable(
            f"cannot {what} the store: no space is left on the disk of {where}: free some there (deletions still work)"
        )

    @property
    def _wal(self) -> Path:
        return self._path.with_name(self._path.name + "-wal")

    def maintain(self) -> tuple[int, bool]:
        """One step of compaction and of giving free pages back. Returns the compacted revision and whether more is due.

        Raises sqlite3.Error.
        """
        if due := self._retention.due(time.time()):
            self._transaction((), due)
            self._grown(64 << 10)
            return self._compacted, True
        free = self._writer.execute("PRAGMA freelist_count").fetchone()[0]
        pages = self._writer.execute("PRAGMA page_count").fetchone()[0]
        # A quarter of the file may stay free: the next writes use it, and taking it away would make them grow the file.
        if free - pages // 4 < VACUUM_PAGES:
            return self._compacted, False
        self._writer.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
        self._grown(VACUUM_PAGES * PAGE_BYTES)
        return self._compacted, True

    def checkpoint(self) -> None:
        """Copies the WAL into the database file beside the writer. Raises sqlite3.Error."""
        self._checkpoint(self._reader, "PASSIVE")

    def _restart_wal(self) -> None:
        # The records are durable by now: whatever goes wrong here is no failure of theirs.
        try:
            self._checkpoint(self._writer, "RESTART")
            self._wal_bytes = 0
        except sqlite3.Error as error:
            log.warning("cannot copy the write-ahead log of %s: %s", self._path, _words(error))
            self._wal_bytes = WAL_LIMIT_BYTES // 2  # tries again after as much more

    def _checkpoint(self, connection: sqlite3.Connection, mode: str) -> None:
        self._uncopied_bytes = 0
        connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()

    def _grown(self, size: int) -> None:
        self._uncopied_bytes += size
        self._wal_bytes += size

    def read(self, after: int, until: int, lower: str, upper: str, limit: int) -> tuple[list[Record], int]:
        """At most `limit` records with after < revision <= until and lower <= key < upper ("": no bound), in order.

        Returns with them the revision up to which there are no others. Raises Compacted, StoreError.
        """
        connection = self._reader
        try:
            connection.execute("BEGIN")
            try:
                compacted = connection.execute("SELECT revision FROM compaction").fetchone()[0]
                rows = connection.execute(
                    "SELECT l.revision, l.type, l.key, l.value, f.revision, f.value"
                    " FROM log l LEFT JOIN log f ON f.revision = l.former"
                    " WHERE l.revision > ? AND l.revision <= ? AND l.key >= ? AND (? = '' OR l.key < ?)"
                    " ORDER BY l.revision LIMIT ?",
                    (after, until, lower, upper, upper, limit),
                ).fetchall()
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._unavailable("read", error) from error
        if after < compacted:
            raise Compacted(after, compacted)
        records = [
            Record(
                Event(TYPES[code], key, value, revision, former_value),
                Entry(key, former_value, former) if former is not None else None,
            )
            for revision, code, key, value, former, former_value in rows
        ]
        return records, records[-1].event.revision if len(records) == limit else until

    def close(self) -> None:
        try:
            # The writer's connection is closed last: that copies the WAL into the file and removes it.
            self._connections.close()
        finally:
            os.close(self._lock)
