"""Pages: HTML in one file that opens offline, all in one style."""
