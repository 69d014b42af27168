"""`python -m onebit` is the command `onebit`."""

import sys

from onebit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
