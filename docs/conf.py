"""Sphinx's configuration. Build the site with ``python -m docs``, which fetches and checks what this needs."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nystrom_np import __version__

project = "nystrom_np"
project_copyright = "the authors of nystrom_np, Apache License 2.0"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "docs.builder.extension",
]
exclude_patterns = ["_build/**", "_templates/**", "builder/**"]
myst_enable_extensions = ["dollarmath", "deflist", "attrs_inline"]
myst_fence_as_directive = ["python", "console"]
myst_heading_anchors = 4
# explore:text=1&m=8 is the explorer with these settings
myst_url_schemes = {"http": None, "https": None, "mailto": None, "explore": "explorer.html#{{path}}"}
nitpicky = True  # a reference that leads nowhere is an error
default_role = "code"  # in numpydoc single backticks name parameters
autodoc_typehints = "none"  # the docstrings give shapes and dtypes in words
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]  # of which several may share a line, too
napoleon_use_param = False
add_module_names = False
toc_object_entries_show_parents = "hide"  # a method is listed under its class
python_maximum_signature_line_length = 76

templates_path = ["_templates"]
html_theme = "furo"
templates_path = ["_templates"]
# The reads' text takes the place of the list of contents, which is therefore on the left.
html_sidebars = {
    read: [
        f"sidebar/{part}.html" for part in ("brand", "search", "scroll-start", "contents", "navigation", "scroll-end")
    ]
    for read in ("annotated", "faster")
}
html_title = "nystrom_np"
html_baseurl = os.environ.get("NYSTROM_NP_SITE", "")  # where the pages will lie: previews of links need it
html_static_path = ["_static", "_build/static"]
html_math_renderer = "katex"
html_copy_source = False
html_show_sphinx = False
html_domain_indices = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1b5e9b", "color-brand-content": "#1b5e9b"},
    "dark_css_variables": {"color-brand-primary": "#7db8ee", "color-brand-content": "#7db8ee"},
}
pygments_style = "a11y-high-contrast-light"  # of accessible-pygments, which the theme brings
pygments_dark_style = "a11y-high-contrast-dark"
copybutton_selector = "div:not(.output) > div.highlight pre"
copybutton_prompt_text = "$ "  # of a console's box the commands are copied, not what they print
