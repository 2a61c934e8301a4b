#!/usr/bin/env bash
# A throwaway Slurm cluster of two nodes on this host, and what is said of Slurm put to the test on it.
#   tests/cluster/run_slurm.sh [PYTHON]
# Installs nothing, writes to a temporary folder only, and stops what it started. Exit code 77: Slurm is not installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-python}
export PATH="$PATH:/usr/sbin:/sbin" OMP_NUM_THREADS=1 WANDB_MODE=offline WANDB_SILENT=true CUDA_VISIBLE_DEVICES=
for tool in munged slurmctld slurmd sbatch srun scontrol squeue; do
  command -v "$tool" >/dev/null || { echo "skipped: $tool is not installed (Debian: slurm-wlm munge)"; exit 77; }
done

folder=$(mktemp -d)
chmod 755 "$folder"
started=()
stop() {
  local code=$?
  scancel --user="$(id -un)" 2>/dev/null || true # of this cluster: SLURM_CONF says which
  sleep 1
  kill "${started[@]}" 2>/dev/null || true
  for _ in 1 2 3 4 5; do [ -z "$(ours)" ] || { kill -9 $(ours) 2>/dev/null || true; sleep 1; }; done
  if [ "$code" = 0 ]; then rm -rf "$folder"; else
    echo "FAILED; kept $folder"
    tail -n 40 "$folder"/runs/*/*/slurm*.log "$folder"/slurmctld.log 2>/dev/null || true
  fi
  exit "$code"
}
ours() { # processes whose environment names this cluster, but not this script's own
  local file pid
  for file in /proc/[0-9]*/environ; do
    pid=${file#/proc/}; pid=${pid%/environ}
    if [ "$pid" != "$$" ] && [ "$pid" != "${BASHPID:-}" ] && grep -qsz "^SLURM_JOB_ID=${1:-}" "$file" 2>/dev/null &&
      grep -qszF "$folder" "$file" 2>/dev/null; then echo "$pid"; fi
  done
}
trap stop EXIT

# The cluster -----------------------------------------------------------------------------------------------------------
free_ports() { "$python" -c "
import socket
sockets = [socket.socket() for _ in range(3)]
[s.bind(('127.0.0.1', 0)) for s in sockets]
print(*(s.getsockname()[1] for s in sockets))"; }
read -r control_port port1 port2 < <(free_ports)
mkdir -p "$folder"/{state,n1,n2,runs}
head -c 1024 /dev/urandom >"$folder/munge.key"
chmod 400 "$folder/munge.key"
cat >"$folder/slurm.conf" <<CONF
ClusterName=throwaway
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
SlurmctldPort=$control_port
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SlurmdTimeout=10
InactiveLimit=0
KillWait=10
ReturnToService=2
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port=$port1 CPUs=2
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port=$port2 CPUs=2
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$folder/slurm.conf"
export MASTER_ADDR=127.0.0.1 GLOO_SOCKET_IFNAME=lo # n1 and n2 are no hosts of their own
munged --foreground --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
  --log-file="$folder/munged.log" --seed-file="$folder/munged.seed" >"$folder/munged.out" 2>&1 &
started+=($!)
for _ in $(seq 50); do [ -S "$folder/munge.socket" ] && break; sleep 0.1; done
slurmctld -D >"$folder/slurmctld.out" 2>&1 &
started+=($!)
node() { slurmd -D -N "$1" >"$folder/$1.out" 2>&1 & started+=($!); }
node n1
node n2
n2=${started[-1]}
for _ in $(seq 100); do [ "$(sinfo -h -N -t idle -o %N 2>/dev/null | wc -l)" = 2 ] && break; sleep 0.2; done
sinfo -N

# The runs --------------------------------------------------------------------------------------------------------------
config=(--config configs/vision/classification_digits.yaml --config tests/cluster/plain.yaml)
say() { printf '\n%s  %(%T)T\n' "$*" -1; }
value() { awk -v key="$1" '$1 == key { print $2; exit }'; }
state() { scontrol show job "$1" -o | grep -o 'JobState=[A-Z_]*' | cut -d= -f2 | sort -u; } # of an array, of all its jobs
submit() { # NAME [options]: sets job and run
  local name=$1 printed; shift
  printed=$("$python" cli.py submit "${config[@]}" --runs "$folder/runs" --name "$name" --nodes 2 --gpus 0 --cpus 1 "$@")
  job=$(value job <<<"$printed"); run=$(value run <<<"$printed")
}
finished() { # wait for the job's last word
  for _ in $(seq 480); do
    case $(state "$job") in COMPLETED | FAILED | CANCELLED | TIMEOUT | NODE_FAIL) break ;; esac
    sleep 1
  done
  [ "$(state "$job")" = "$1" ] || { echo "job $job is $(state "$job"), not $1"; return 1; }
}
training() { # wait until the run has a checkpoint and some rows
  for _ in $(seq 120); do
    if [ -f "$run/checkpoints/last.ckpt" ] && [ "$(wc -l <"$run/metrics.csv")" -gt "$1" ]; then return; fi
    sleep 0.5
  done
  echo "no training in $run"; return 1
}
no_orphan() {
  for _ in $(seq 20); do [ -z "$(ours "$job")" ] && return; sleep 1; done
  echo "left running: $(ours "$job")"; return 1
}
kill_n2() { # its slurmd, its slurmstepd, its rank
  local file pid ranks=()
  for pid in $(ours "$job"); do
    if grep -qsz "^SLURMD_NODENAME=n2" "/proc/$pid/environ"; then ranks+=("$pid" "$(awk '{print $4}' "/proc/$pid/stat")"); fi
  done
  [ "${#ranks[@]}" -gt 0 ] || { echo "no rank on n2"; return 1; }
  kill -9 "$n2" "${ranks[@]}" 2>/dev/null || true
}

say "the nodes reach each other"
srun -N2 --ntasks-per-node=1 --cpus-per-task=1 "$python" cli.py doctor --runs "$folder/runs" | tee "$folder/doctor.log"
grep -q "2 over gloo: 64 MiB summed" "$folder/doctor.log"

say "data are prepared once a node"
PREPARED="$folder/prepared.txt" srun -N2 --ntasks-per-node=2 --cpus-per-task=1 "$python" cli.py fit "${config[@]}" \
  --data tests.cluster.counted_digits.CountedDigits --runs "$folder/runs" --trainer.accelerator cpu --trainer.strategy ddp \
  --trainer.num_nodes 2 --trainer.devices 2 --trainer.fast_dev_run true >"$folder/prepared.log" 2>&1
[ "$(sort "$folder/prepared.txt" | xargs)" = "n1 n2" ] || { cat "$folder/prepared.txt"; false; }

say "one process"
"$python" cli.py fit "${config[@]}" --runs "$folder/runs" --name one --trainer.accelerator cpu >"$folder/one.log" 2>&1
one=$(value run <"$folder/one.log")

say "two nodes"
submit whole --time 5
whole=$run
finished COMPLETED
"$python" -m tests.cluster.compare metrics "$one" "$whole"

export STEP_SECONDS=0.1
say "an array of two seeds"
submit seeds --time 5 --nodes 1 --seeds 2
finished COMPLETED
for seed in 0 1; do
  grep -x "seed_everything: $seed" "$run-$seed/config.yaml"
  grep "ranks ended with exit code 0" "$run/slurm-$seed.log"
done
if "$python" -m tests.cluster.compare weights "$run-0" "$run-1" 2>/dev/null; then echo "the seeds are the same"; false; fi

say "told before the limit, requeued by Slurm"
submit preempted --time 2 --warn_seconds 60
finished COMPLETED
grep "requeued" "$run/slurm.log"
"$python" -m tests.cluster.compare weights "$whole" "$run"
"$python" -m tests.cluster.compare metrics "$whole" "$run"
"$python" -m tests.cluster.compare one_run "$run"

say "a node dies, and the job may start again"
submit node_dies --time 5 --max_restarts 1
training 20
kill_n2
sleep 3
export STEP_SECONDS=0
node n2
n2=${started[-1]}
finished COMPLETED
no_orphan
grep "requeued" "$run/slurm.log"
"$python" -m tests.cluster.compare weights "$whole" "$run"
"$python" -m tests.cluster.compare one_run "$run"

export STEP_SECONDS=0.1
say "a node dies, and the job may not start again"
submit node_dies_for_good --time 5 --sbatch no-requeue
training 20
kill_n2
for _ in $(seq 60); do case $(state "$job") in FAILED | NODE_FAIL) break ;; esac; sleep 1; done
case $(state "$job") in FAILED | NODE_FAIL) ;; *) echo "job $job is $(state "$job")"; false ;; esac
no_orphan
export STEP_SECONDS=0
node n2
job=$(sbatch --parsable "$run/job.sbatch")
finished COMPLETED
"$python" -m tests.cluster.compare weights "$whole" "$run"
"$python" -m tests.cluster.compare one_run "$run"

say "passed"
