"""peak.py MB COMMAND...: runs a command, prints its peak resident memory and time, and fails where it is more than MB."""
import resource
import subprocess
import sys
import time

start = time.monotonic()
status = subprocess.run(sys.argv[2:]).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
print(f"peak {peak:.0f} MB of {sys.argv[1]}, {time.monotonic() - start:.1f} s", flush=True)
sys.exit(status if status != 0 else peak > float(sys.argv[1]))
