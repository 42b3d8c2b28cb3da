"""Masks in the formats of annotation tools: index PNGs, COCO, YOLO, labelme, CVAT and Label Studio."""
