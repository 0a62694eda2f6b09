"""Made street scenes for the demo, the tests and the pictures of the documentation: nothing real is in them."""
