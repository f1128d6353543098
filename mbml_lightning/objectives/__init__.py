"""The equations, one pure function each."""
