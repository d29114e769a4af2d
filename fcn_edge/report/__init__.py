"""Pages, plots and answers out of what `fcn-edge bench` measured: made of `report.json` alone, by `fcn-edge report`."""
