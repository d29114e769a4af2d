"""Where a deep learning accelerator can serve: TensorRT, JetPack and board have to agree, and shapes be static."""
