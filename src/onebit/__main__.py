"""The command `onebit`, also as `python -m onebit`. It catches Ctrl-C before it imports anything."""

import sys


def command() -> int:
    """Run the command and return its exit status. Ctrl-C at any moment ends it without a traceback."""
    try:
        try:
            from onebit.cli.main import main

            return main()
        finally:
            import signal

            # Nothing catches an exception while the interpreter shuts down.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    except KeyboardInterrupt:
        import contextlib

        with contextlib.suppress(OSError):  # standard error may be closed
            print("\nonebit: interrupted", file=sys.stderr, flush=True)
        return 130


if __name__ == "__main__":
    sys.exit(command())
