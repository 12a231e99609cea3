"""`podling COMMAND`: one module of this package per command, imported only when it is called.

A command module has `register(subparsers)`, which adds its parser, and `run(args) -> int`, its exit code. Exit codes: 0 done,
1 failed with one line on stderr, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from typing import Any

from podling.cli.errors import CommandError, one_line

COMMANDS = ("up", "down", "reset", "status", "doctor", "kubeconfig", "image")
PROCESSES = ("server", "agent")
"""The cluster's processes; `podling up` starts them. Not listed in the help."""


class _Parser(argparse.ArgumentParser):
    """Takes no beginnings of flags: scripts that look for a flag, as tools/demo.sh does, would not see them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)


def parser_for(command: str) -> argparse.ArgumentParser:
    """The parser with that command's arguments; all commands' for one that does not exist."""
    parser = _Parser(prog="podling", description="Kubernetes Pods in Python.")
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name in (command,) if command in (*COMMANDS, *PROCESSES) else COMMANDS:
        importlib.import_module(f"podling.cli.{name}").register(subparsers)
    for subparser in subparsers.choices.values():
        subparser.add_argument("-v", "--verbose", action="store_true", help="say more, above all when something fails")
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    parser = parser_for(next((word for word in arguments if not word.startswith("-")), ""))
    args = parser.parse_args(arguments)
    if args.version:
        from importlib.metadata import version

        print(f"podling {version('podling')} (Kubernetes v1.36)")
        return 0
    if args.command is None:
        parser.print_help()
        return 2
    try:
        code: int = args.run(args)
        return code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if args.verbose and not isinstance(error, CommandError):
            traceback.print_exc()
        print(f"podling {args.command}: {one_line(error)}", file=sys.stderr)
        if args.verbose and isinstance(error, CommandError) and error.details:
            print(error.details.rstrip(), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
