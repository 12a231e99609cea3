"""Send recorded requests to a fresh API server and report, per file, how many answers are those of kube-apiserver.

    python -m tools.parity [FILE ...] [--show N] [--raise]

--show prints the first N differences of each file, --raise notes counts that are higher than before as those to keep.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.support import parity
from tests.support.api_server import api_server


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help="a name such as create-v1-configmap (default: all)")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print the first N differences of each file")
    parser.add_argument("--raise", dest="raising", action="store_true", help="note higher counts as those to keep")
    options = parser.parse_args()
    folder = parity.corpus()
    if folder is None:
        print("skipped: the recordings of kube-apiserver are not beside the project (see tests/support/parity.py)")
        return 0
    with tempfile.TemporaryDirectory(prefix="podling-parity-") as directory:
        asyncio.run(_report(folder, Path(directory), options))
    return 0


async def _report(folder: Path, directory: Path, options: argparse.Namespace) -> None:
    async with api_server(directory) as server:
        if not options.raising:
            shown = ["--show", str(options.show)]
            print(await asyncio.to_thread(parity.replay, folder, server, *options.files, *shown), end="")
            return
        kept = parity.floor()
        for name, count in (await asyncio.to_thread(parity.count, folder, server, *options.files)).items():
            before = kept.get(name, parity.Count(0, 0))
            kept[name] = parity.Count(max(count.code, before.code), max(count.answer, before.answer))
            if kept[name] != before:
                print(f"{name}: {before.code}, {before.answer} -> {kept[name].code}, {kept[name].answer}")
        parity.write_floor(kept)


if __name__ == "__main__":
    sys.exit(main())
