"""Lets the tests of this folder import `pages`, which reads Markdown for all of them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
