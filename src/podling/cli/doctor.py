"""`podling doctor`: runs a Pod as the agent does, and says what is missing on this machine and how to get it."""

from __future__ import annotations

import argparse
import sys

from podling.cli import checks
from podling.cli import settings as cluster_settings


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("doctor", help="check this machine", description=__doc__)
    cluster_settings.add_data_dir(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    settings = cluster_settings.load(args.data_dir) or cluster_settings.Settings(data_dir=args.data_dir)
    found = [*checks.privileges()]
    if not found[0].problem:
        found.append(checks.pod(settings))
    parts = [*checks.kernel(), *checks.cgroups(), *checks.tools(settings.oci_runtime)]
    # Where a Pod runs, none of them can be missing, whatever such a look at the machine's surface tells.
    pod_runs = not any(check.problem for check in found)
    found += [part for part in parts if not (pod_runs and part.problem)]
    found += [checks.disk(settings.data_dir), *checks.limits(), *checks.conveniences()]
    missing = 0
    for check in found:
        if not check.problem:
            print(f"ok       {check.name}" + (f" ({check.found})" if check.found and args.verbose else ""))
            continue
        missing += check.required
        print(f"{'MISSING' if check.required else 'warning'}  {check.name} {check.problem}")
        if check.remedy:
            print(f"         remedy: {check.remedy}")
    if missing:
        print(f"podling doctor: {missing} of what Podling needs is missing", file=sys.stderr)
    return 1 if missing else 0
