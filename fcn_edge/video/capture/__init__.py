"""Live sources are captured in a process of their own.

A driver, a name server or a camera that says nothing can hold a call for ever; a process can be ended
whatever it waits for, and what it decodes costs the pipeline no Python lock. `python -m
fcn_edge.video.capture` is that process; `capture/protocol.py` says what a kind of capture is.
"""
