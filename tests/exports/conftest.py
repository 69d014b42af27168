"""The random models and GGUF files of the tests of importing serve here too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "importing"))
