"""How Sphinx builds this folder: `sphinx-build -W -n docs FOLDER` (scripts/test.sh does, with the extra `docs`)."""

import gc
import sys
import typing
from pathlib import Path

import cv2  # noqa: F401
from sphinx.ext.napoleon import GoogleDocstring

sys.path.insert(0, str(Path(__file__).parent))
# Modules that import some types for annotations only, to be quick; autodoc has to find these types there.
typing.TYPE_CHECKING = True
import spm_rt.backends  # noqa: E402
import spm_rt.outputs.base  # noqa: E402, F401

typing.TYPE_CHECKING = False
# Trees of nodes grow to the end of a build: looking for garbage among them as often as usual takes a quarter of it.
gc.set_threshold(100_000)

project = "spm_rt"
author = "the spm_rt authors"
html_title = "spm_rt"
root_doc = "README"
exclude_patterns = ["_sphinx"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "_sphinx.tables", "_sphinx.pages"]

myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
autodoc_mock_imports = ["gi"]  # belongs to the system's Python
napoleon_use_ivar = True
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 100

html_theme = "furo"
html_copy_source = False
html_static_path = ["_sphinx/static"]
html_css_files = ["site.css"]
html_show_sphinx = False
# A docstring of a constant is a sentence; napoleon would take what stands before a colon in it for a type.
GoogleDocstring._consume_inline_attribute = lambda self: ("", self._consume_to_end())
# Types of other projects, whose documentation is not at hand while this one is built; aliases of ours.
OTHERS = "numpy|np|torch|onnx|ir|onnx_ir|cv2|argparse|pathlib|os|collections|typing|ctypes|mmap|json|nn|threading"
OTHERS += "|flask|werkzeug|contextlib"
ALIASES = "NDArray|Path|Any|Callable|Iterator|Iterable|Sequence|Mapping|Self|Several|Tensor|Floats|Boxes|Load|Item"
ALIASES += "|Holder|Image|Samples"
nitpick_ignore_regex = [
    ("py:.*", rf"({OTHERS})(\..*)?"),
    ("py:.*", rf"(spm_rt\.[a-z_.]+\.)?({ALIASES}|Frame|Picture|Settings)"),
    ("py:.*", r"tuple\[(int|str)|list\[dict\[str|types\.(Frame|Module)Type"),
]
