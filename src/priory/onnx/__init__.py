"""A run's encoder, decoder and sampler as ONNX models, for programs without Priory or torch."""

from priory.onnx.writing import Exported, export

__all__ = ["Exported", "export"]
