#!/usr/bin/env bash
# One training run on the GPUs of this machine that starts again when a rank dies, in the same run folder.
#   configs/cluster/torchrun.sh RUN_FOLDER RANKS --config CONFIG [options of fit]
# On several machines: the same on each, with --nnodes=N --rdzv-backend=c10d --rdzv-endpoint=HOST:29400 for
# --standalone, --trainer.num_nodes N, and RUN_FOLDER on a shared file system.
set -euo pipefail
run=$1 ranks=$2
shift 2
# A store for each start: in one that the starts share, a rank may find where another listened before it died.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec "${PYTHON:-python}" -m torch.distributed.run --standalone --nproc-per-node="$ranks" --max-restarts=2 \
  "$(dirname "$0")/../../cli.py" fit "$@" --trainer.devices="$ranks" --trainer.strategy=ddp --into "$run"
