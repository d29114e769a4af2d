"""An ONNX file to a TensorRT engine that says what it is.

    versions    which TensorRT is there, and every difference between its versions
    profiles    the shapes that an engine takes, the options that it is built with, the boards it is built for
    complaints  what the parser refuses, told in one line with the mend
    inspection  the precision that a network has, and its engine
    dla         where a deep learning accelerator can serve, and what falls off it
    progress    how far a build is, and how it is ended early
    builder     all of that, put together
    machine     the GPU and board that an engine belongs to; board, how a Jetson is set
    key         what an engine was made from; cache engines found again by it
    sidecar     the file beside an engine that says what it is, its check before loading; header, a plan's first bytes

Nothing here imports torch or the onnx package; TensorRT is loaded where it is asked for and nowhere else.
"""
