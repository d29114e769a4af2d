"""`python -m fcn_edge.video.capture`: the process that captures, started by fcn-edge itself."""

from fcn_edge.video.capture.child import main

main()
