"""Label Studio's JSON and JSON_MIN: polygons, ellipses and brushes of a project's tasks, and the images.

    project-4-at-2025-09-23.json    images/9729b5a1-a.jpg

    [{"id": 1, "data": {"image": "/data/upload/4/9729b5a1-a.jpg"},
      "annotations": [{"id": 3, "completed_by": 1, "result": [
        {"id": "x", "type": "polygonlabels", "original_width": 640, "original_height": 480,
         "value": {"points": [[x, y in percent], ...], "polygonlabels": ["fig"]}}]}]}]

A label_config.xml next to it, which exports lack, has the labels in their order, with colours.
JSON_MIN is flat: {"id": 1, "image": "...", "label": [{"points": ..., "polygonlabels": ["fig"], ...}], "annotator": 1}.
`label_studio_dataset` reads regions of the images that `label_studio_tasks` names; `label_studio_brushes` finds brushes
that were exported as masks, `label_studio_controls` reads a labelling configuration, and `label_studio_writer` writes.
"""
