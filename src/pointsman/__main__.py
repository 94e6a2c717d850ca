"""`python -m pointsman`, and the `pointsman` command."""

import sys


def run() -> None:
    import signal

    from pointsman.cli import main

    # CI systems cancel by SIGTERM: end as after Ctrl-C, with the test command and the run's record put in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
