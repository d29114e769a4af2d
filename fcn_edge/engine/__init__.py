"""An ONNX file to a TensorRT engine that says what it is.

    versions   which TensorRT is there, and every difference between its versions
    profiles   the shapes that an engine takes, the options that it is built with, the boards it is built for
    complaints what the parser refuses, told in one line with the mend
    dla        where a deep learning accelerator can serve, and what falls off it
    builder    all of that, put together
    machine    the GPU and system that an engine belongs to
    board      how a Jetson is set: JetPack, power mode, clocks
    key        what an engine was made from and for
    header     what a plan's first bytes say
    sidecar    the file beside an engine that says what it is, and its check before loading
    cache      engines found again by their key

Nothing here imports torch or the onnx package; TensorRT is loaded where it is asked for and nowhere else.
"""
