"""How the pages are built: `make docs`, offline, with warnings as errors."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]  # the second: the benchmarks' tables
os.environ.setdefault("MPLBACKEND", "agg")

import priory  # noqa: E402

project = "Priory"
author = "the authors of Priory"
copyright = "the authors of Priory"
release = version = priory.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "docstrings",
    "mathml",
    "scraper",
    "generate",
    "llms",
    "titles",
]
exclude_patterns = ["_build", "_ext", "_static", "learn", "**/README.md"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
default_role = "py:obj"
nitpicky = False

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "Priory"
html_static_path = ["_static"]
html_css_files = ["priory.css"]
html_copy_source = False
html_show_sourcelink = False
html_sidebars = {"index": [], "gallery/index": [], "results": []}
html_theme_options = {
    "logo": {"text": "Priory"},
    "header_links_before_dropdown": 8,
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-button"],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
    "show_toc_level": 1,
    "navigation_depth": 2,
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
    "footer_start": ["copyright"],
    "footer_end": [],
}

sphinx_gallery_conf = {
    "examples_dirs": ["_build/scripts/tutorials", "_build/scripts/gallery"],
    "gallery_dirs": ["tutorials", "gallery"],
    "filename_pattern": r"\.py",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("matplotlib", "scraper.written"),
    "reset_modules": ("scraper.fresh",),
    "matplotlib_animations": False,
    "capture_repr": (),
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "min_reported_time": 1,
    "remove_config_comments": True,
    "thumbnail_size": (320, 224),
    "only_warn_on_example_error": False,
    "write_computation_times": False,
}
