"""The only truth: what a gallery holds, in a file or on a server, and every SQL statement."""
