"""Pictures that memory does not hold: read by rows, segmented in tiles, written as they go.

open_rows        a picture of any size, rows from its top
write_tiff       rows into a tiled TIFF; write_png into a PNG
Work             what an interrupted picture has done
segment_picture  all of them together
"""

from fcn_edge.giant.picture import Done, Wanted, segment_picture
from fcn_edge.giant.rows import Rows, open_rows
from fcn_edge.giant.work import Work
from fcn_edge.giant.written import write_png, write_tiff

__all__ = ["Done", "Rows", "Wanted", "Work", "open_rows", "segment_picture", "write_png", "write_tiff"]
