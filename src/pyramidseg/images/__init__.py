"""Read image files as NumPy arrays. Entry point: `decode.read_image`; every file is opened in `open_image`."""
