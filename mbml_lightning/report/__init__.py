"""Pictures, tables and the page that compare methods."""
