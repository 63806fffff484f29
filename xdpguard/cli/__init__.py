"""The command line: which commands there are, what they call, and how they end. No logic of the filter."""
