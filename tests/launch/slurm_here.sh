#!/usr/bin/env bash
# launch/slurm.sbatch under a real SLURM of one node, this machine: two tasks train, are asked to stop, are queued again by the script, and
# end with the numbers of a run that one process made alone. Needs root and Debian's packages slurm-wlm and munge:
# ./tests/launch/slurm_here.sh. It ends with status 0 if all of that is so, and stops the daemons that it started.
set -euo pipefail
cd "$(dirname "$0")/../.."
WORK=$(mktemp -d)
CONFIG=(--config=configs/quickstart.py --config.epochs=6 "--config.dataset.data_dir=$WORK/data" --config.dataset.num_threads=1)
daemons=()
trap 'kill "${daemons[@]}" 2> /dev/null || true; rm -rf "$WORK"' EXIT

mkdir -p /run/munge /etc/munge "$WORK/state" "$WORK/spool"
[ -s /etc/munge/munge.key ] || (umask 077 && head -c 1024 /dev/urandom > /etc/munge/munge.key)
chown -R munge: /run/munge /etc/munge /var/log/munge /var/lib/munge
pgrep -x munged > /dev/null || { runuser -u munge -- munged --foreground > "$WORK/munged.log" 2>&1 & daemons+=($!); }

HOST=$(hostname -s)
export SLURM_CONF=$WORK/slurm.conf
cat > "$SLURM_CONF" << EOF
ClusterName=here
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$WORK/state
SlurmdSpoolDir=$WORK/spool
SlurmctldPidFile=$WORK/slurmctld.pid
SlurmdPidFile=$WORK/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=$HOST Default=YES MaxTime=INFINITE State=UP
EOF
slurmctld -D > "$WORK/slurmctld.log" 2>&1 & daemons+=($!)
slurmd -D > "$WORK/slurmd.log" 2>&1 & daemons+=($!)
until sinfo --noheader --format=%T 2> /dev/null | grep -q idle; do sleep 1; done
echo "== SLURM $(sinfo --version | cut -d' ' -f2) on $(nproc) cores"

fail() {
  echo "FAILED: $1" >&2
  tail -n 40 "$WORK/slurmctld.log" "$WORK/slurmd.log" "$WORK/job.log" >&2 || true
  exit 1
}
wait_until() { # a command is true, for at most five minutes, or until the job has ended
  local what=$1 end=$((SECONDS + 300))
  shift
  until "$@"; do
    if [ $SECONDS -ge $end ] || { [ "$*" != is_done ] && is_done; }; then fail "$what"; fi
    sleep 1
  done
}
state() { scontrol --oneliner show job "$JOB" | grep -o 'JobState=[A-Z]*' | cut -d= -f2; }
is_done() { [[ $(state) =~ COMPLETED|FAILED|CANCELLED ]]; }

JOB=$(sbatch --parsable --nodes=1 --ntasks-per-node=2 --output="$WORK/job.log" launch/slurm.sbatch train "${CONFIG[@]}" --workdir="$WORK/two")
says() { grep -qs "$1" "$WORK/job.log"; }
wait_until "no epoch was trained" says "^epoch 2/"
scancel --signal=TERM "$JOB" # to the tasks, as SLURM does a minute before the time is up
wait_until "the job was not queued again" says "rerun the same command to resume"
wait_until "the queued job did not start" says "^resuming"
wait_until "the job did not end" is_done
cat "$WORK/job.log"
[ "$(state)" = COMPLETED ] || fail "the job ended as $(state)"
grep -q "2 device(s) of 2 processes" "$WORK/job.log" || fail "the tasks did not find each other"

echo "== one process alone"
.venv/bin/python -m cervix_jax.train "${CONFIG[@]}" --workdir="$WORK/one"
.venv/bin/python - "$WORK/one/metrics.jsonl" "$WORK/two/metrics.jsonl" << 'EOF'
import json, sys
one, two = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
assert len(one) == len(two) == 6, (len(one), len(two))
for epoch, (a, b) in enumerate(zip(one, two, strict=True), 1):
    print(f"== epoch {epoch}: training loss {a['train_loss']:.4f} alone, {b['train_loss']:.4f} together")
assert abs(one[0]["train_loss"] - two[0]["train_loss"]) < 1e-3  # later, float32's rounding has grown
EOF
echo "== passed"
