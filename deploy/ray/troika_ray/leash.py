"""Runs a program that ends when its parent does, however that came about.

`python leash.py PARENT PROGRAM ARGS...` asks Linux to kill this process with its parent, and becomes the program. An actor
that is killed has no time to end what it started, and a server without its actor would keep a port, a GPU and memory for
nobody. On other systems the program runs without a leash. A file of its own that imports nothing, so it starts at once.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Takes the leash, and becomes the program."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The parent may have died before the leash was on.
        if os.getppid() != parent:
            sys.exit("the actor that started this is gone")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
