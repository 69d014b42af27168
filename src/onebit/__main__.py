"""The command `onebit`, as `python -m onebit` too. Nothing is imported before Ctrl-C is caught."""

import sys


def command() -> int:
    """Run the command and return its exit status; Ctrl-C ends it without a traceback from its first line to the interpreter's last."""
    try:
        try:
            from onebit.cli.main import main

            return main()
        finally:
            import signal

            # While the interpreter ends nobody catches an exception.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    except KeyboardInterrupt:
        import contextlib

        with contextlib.suppress(OSError):  # there may be nobody to tell
            print("\nonebit: interrupted", file=sys.stderr, flush=True)
        return 130


if __name__ == "__main__":
    sys.exit(command())
