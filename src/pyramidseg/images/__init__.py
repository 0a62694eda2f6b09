"""Image files to arrays, with their place on a map."""
