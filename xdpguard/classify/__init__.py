"""Rule sets compiled to tables: intervals, classes, bit vectors, one blob. Pure."""
