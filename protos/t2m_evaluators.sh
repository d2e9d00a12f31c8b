#!/bin/sh
cd "$(dirname "$0")/.." && exec "${PYTHON:-python3}" -m protos.fetch t2m-evaluators-humanml t2m-evaluators-kit "$@"
