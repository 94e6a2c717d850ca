"""`python -m pointsman`, and the `pointsman` command."""

import sys


def run() -> None:
    import gc
    import signal

    # Imports and AWS's models make a hundred thousand objects that stay: looking for garbage among them time and again
    # costs a short command a tenth of its time. A long one still collects, only less often.
    gc.set_threshold(100_000, 20, 20)
    from pointsman.cli import main

    # CI systems cancel by SIGTERM: end as after Ctrl-C, with the test command and the run's record put in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = main(sys.argv[1:])
    gc.freeze()  # nor need the end of the process look for any
    sys.exit(code)


if __name__ == "__main__":
    run()
