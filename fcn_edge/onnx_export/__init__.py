"""PyTorch to ONNX: `export` writes a file only once it is proved to do what the network does."""

from fcn_edge.onnx_export.exporter import Exported, export
from fcn_edge.onnx_export.parity import PARITY_SIZES, Parity

__all__ = ["PARITY_SIZES", "Exported", "Parity", "export"]
