"""xdpguard: an XDP and TC packet filter and accountant for one Linux host."""

__version__ = "0.1.0"
