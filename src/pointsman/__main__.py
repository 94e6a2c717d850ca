"""`python -m pointsman`, and the `pointsman` command."""

import sys


def run() -> None:
    from pointsman.cli import main

    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
