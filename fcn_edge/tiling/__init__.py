"""Pictures larger than a network's input: cut into tiles that overlap, and their scores joined again.

Tiles begin at multiples of the network's stride, so that its samples lie where they would in the whole picture, and
overlap by what a score sees. What a tile's zero padding touched is thrown away: away from the picture's rim the joined
scores are those of the whole picture, but for what a network takes from all of its input at once.

    Tiling     of one model: how its pictures are cut, and their scores joined
    Sides      how a picture of one size is cut
    Strip      finished scores of one row of tiles
"""

from fcn_edge.tiling.cuts import Cut, Sides
from fcn_edge.tiling.field import Field
from fcn_edge.tiling.strips import Strip, Tiling, open_tiling

__all__ = ["Cut", "Field", "Sides", "Strip", "Tiling", "open_tiling"]
