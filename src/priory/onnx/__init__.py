"""A run's encoder, decoder and sampler as ONNX models, for programs without Priory or torch."""

from priory.onnx.writing import Exported as Exported
from priory.onnx.writing import export as export
