"""Print each CPython from 3.10 on that this machine has: its version and its path, a line for each.

Looked for on PATH, in /usr/bin, and among pyenv's versions.
"""

import glob
import os
import shutil
import subprocess

QUESTION = """
import platform, sys, sysconfig
threads = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
if sys.implementation.name == "cpython" and sys.version_info >= (3, 10):
    print(platform.python_version() + threads, sys.executable)
"""


def main() -> None:
    """Ask every candidate, and print one for each version."""
    names = ["python3", *(f"python3.{minor}" for minor in range(10, 30))]
    candidates = [shutil.which(name) for name in names]
    candidates += [f"/usr/bin/{name}" for name in names]
    root = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    candidates += sorted(glob.glob(f"{root}/versions/*/bin/python3"))
    found: dict[str, str] = {}
    for candidate in candidates:
        if candidate and os.path.exists(candidate):
            # A shim of pyenv answers with an error where no version is chosen.
            answer = subprocess.run(
                [candidate, "-I", "-c", QUESTION], capture_output=True, text=True, check=False
            )
            if answer.returncode == 0 and answer.stdout:
                version, path = answer.stdout.strip().split(" ", 1)
                found.setdefault(version, path)
    for version, path in found.items():
        print(version, path)


if __name__ == "__main__":
    main()
