"""GeoJSON polygons over georeferenced images."""
