"""INT8 by explicit QuantizeLinear and DequantizeLinear nodes: ranges from real pictures, layers by measured harm."""

from fcn_edge.quantization.convert import Choices, Int8, to_int8

__all__ = ["Choices", "Int8", "to_int8"]
