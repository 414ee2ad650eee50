"""The native library: what works on every byte of every record, in C; see README.md."""
