"""Modules of this folder's tests may import the writers of files that lie beside them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
