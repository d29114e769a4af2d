"""Accuracy and latency of the same artefacts on the same machine: `fcn-edge bench`.

Each candidate runs in a process of its own, so that one that crashes, or takes all memory, is a line in the report and
not the end of it; rounds go from candidate to candidate, so that a machine that slows down harms all alike.
"""
