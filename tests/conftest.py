"""Shapes and types of the package are checked at run time in every test; files are written to a temporary folder."""

from jaxtyping import install_import_hook

# Before the package is first imported, so that every function of it is checked.
install_import_hook("mbml_lightning", "beartype.beartype")
