"""HTML pages and figures. `photo_page` is the page that segments photos: the server's, and that of the web export."""
