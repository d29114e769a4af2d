"""`python -m fcn_edge` is `fcn-edge`."""

from fcn_edge.cli.main import main

main()
