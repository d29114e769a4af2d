"""`fcn-edge COMMAND`: one file a command, nothing in it but arguments and printing."""
