"""Georeferenced images with GeoJSON polygons: a file for each image, or one for all.

    images/a.tif           labels/a.geojson (or geojson, vectors, ...); folders for the splits above or below
    RGB/RGB_img7.tif       geojson/buildings/buildings_img7.geojson      SpaceNet: paired by the part that differs
    rastertile_x/img_7_8.tif    vectortile_x/geoms_7_8.geojson           solaris
    images/*.tif           buildings.geojson

    {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {"roof": "tin"},
     "geometry": {"type": "Polygon", "coordinates": [[[-84.48, 33.64], ...], [hole], ...]}}, ...]}

Masks that are GeoTIFF on the grid of the images are format `paired`. `geojson_folders` pairs images with files,
`geojson_classes` applies the settings for classes and coordinates, `geojson_masks` parses a file and draws it, and
`geojson_writer` writes one.
"""
