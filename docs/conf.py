"""The documentation site: `make docs` builds it from the pages as they are, the docstrings and docs/notebooks.

The source folder is that of the whole project, so that the links between README, CONTRIBUTING and the pages hold here as they do on GitHub.
"""

import logging
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent))

import onebit  # noqa: E402

project = "onebit"
author = "The onebit authors"
copyright = author
release = version = onebit.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "mathml",
    "site_build",
]
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**"]
# Whole folders that hold no pages are not looked through: environments and builds have many files.
exclude_patterns = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "docs"]
exclude_patterns += ["docs/*.py", "docs/__pycache__"]

myst_heading_anchors = 4  # as GitHub names them
highlight_language = "text"

# Notebooks are Python files in the percent format. Each runs in a folder of its own; whatever it writes to standard error stops the build.
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 600
nb_output_stderr = "error"
nb_merge_streams = True
# tqdm asks for widgets, which a page cannot have.
os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
# A profile of its own: nothing of the reader's is run, and kernels say only what went wrong.
profile = ROOT / "build" / "ipython" / "profile_default"
profile.mkdir(parents=True, exist_ok=True)
(profile / "ipython_kernel_config.py").write_text("c.IPKernelApp.log_level = 40\n")
os.environ["ONEBIT_CACHE"] = str(ROOT / "build" / "cache")
os.environ["IPYTHONDIR"] = str(profile.parent)
logging.getLogger("traitlets").setLevel(logging.WARNING)

default_role = "py:obj"  # what docstrings write between single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"show-inheritance": True}
napoleon_custom_sections = [("Shape", "notes_style"), ("Shapes", "notes_style")]
napoleon_use_param = False  # "stride, padding: as for ..." stays one line
napoleon_use_rtype = False
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"onebit {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
