"""`python -m pointsman.localaws`: the local AWS in the foreground. `control.up` starts it in the background."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from pointsman.localaws.server import CannotStart, Settings, serve


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pointsman.localaws", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="where its state is kept")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; a free one unless told")
    parser.add_argument(
        "--settle", type=float, default=None, metavar="SECONDS", help="how long a function's update takes"
    )
    parser.add_argument(
        "--ready-fd", type=int, default=None, help="told in one line of JSON when requests are answered"
    )
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        serve(Settings(given.directory.absolute(), given.port, given.settle, given.ready_fd))
    except CannotStart as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    # All is saved. moto's long polls cannot be interrupted, and Python would wait for their threads.
    logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
