"""Runs the reference agent, spdk-sma. The package does not bring the modules generated from the .proto files that it
imports from `spdk.sma.proto`; they are taken from the folder that the first argument names."""

import importlib
import pathlib
import sys


def main():
    folder = sys.argv.pop(1)
    sys.path.append(folder)
    for path in sorted(pathlib.Path(folder).glob("*.py")):
        sys.modules[f"spdk.sma.proto.{path.stem}"] = importlib.import_module(path.stem)
    from spdk.spdk_sma import main as run
    run()


if __name__ == "__main__":
    main()
