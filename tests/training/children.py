"""The processes in which this one trains."""

import os
import subprocess


def kill_children(sig):
    """Send a signal to them."""
    mine = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    for line in mine.stdout.splitlines():
        if "siamese_index.training" in line:
            os.kill(int(line.split()[0]), sig)
