"""Download, verify and unpack the official data sets and pretrained weights."""
