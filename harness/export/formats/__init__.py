"""Other forms of an exported model beside its fp32 weights: half precision, ONNX, int8; and what each changes."""
