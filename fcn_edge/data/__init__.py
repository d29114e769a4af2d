"""Labelled pictures, read without torch.

A data set is a folder whose layout is recognised from what lies in it: PASCAL VOC's (with SBD's masks
beside it), CamVid as SegNet splits it, or any images/ with masks/ and a classes.txt. Whatever a mask
stores, `read_truth` delivers indices of the data set's classes and 255 for void. docs/data.md.
"""

from fcn_edge.data.checking import Progress, check, problem
from fcn_edge.data.opening import open_data, open_list, parse_data
from fcn_edge.data.reading import read_image, read_mask, read_truth
from fcn_edge.data.samples import DataSet, Sample
from fcn_edge.data.seen import pictures_seen, unseen

__all__ = [
    "DataSet",
    "Progress",
    "Sample",
    "check",
    "open_data",
    "open_list",
    "parse_data",
    "pictures_seen",
    "problem",
    "read_image",
    "read_mask",
    "read_truth",
    "unseen",
]
