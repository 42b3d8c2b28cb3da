#!/bin/sh
# The demo through a real Slurm of one node, started here and stopped by pid: as root, `sh tests/slurm_one_node.sh`.
# Needs Debian's slurm-wlm and munge, `make setup` done, and Snakemake's Slurm plugin. PRESET=… runs another preset,
# VALUES=FILE the parameters in a file. CI does not run it.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
export PATH="$root/.venv/bin:$PATH"
for tool in munged slurmctld slurmd sbatch; do
  command -v "$tool" >/dev/null || { echo "error: $tool is missing; install slurm-wlm and munge" >&2; exit 2; }
done
python -c "import snakemake_executor_plugin_slurm" 2>/dev/null ||
  { echo "error: the plugin is missing; pip install snakemake-executor-plugin-slurm" >&2; exit 2; }
base=$(mktemp -d /tmp/novelseg-slurm.XXXXXX)
chmod 755 "$base"
pids=""
# The plugin takes SLURM_CONF out of its jobs' environment, so that srun looks in the usual place.
usual=/etc/slurm/slurm.conf
if [ -e "$usual" ]; then echo "error: $usual exists: this machine has a Slurm of its own" >&2; exit 2; fi
stop() {
  rm -f "$usual"
  for pid in $pids; do kill "$pid" 2>/dev/null || true; done
  wait
  echo "Slurm's own logs and the project: $base"
}
trap stop EXIT
trap 'exit 1' INT TERM

dd if=/dev/urandom of="$base/munge.key" bs=1024 count=1 2>/dev/null
chmod 400 "$base/munge.key"
munged --foreground --force --key-file="$base/munge.key" --socket="$base/munge.socket" --pid-file="$base/munged.pid" \
  --log-file="$base/munged.log" --seed-file="$base/munged.seed" &
pids="$!"
host=$(hostname -s)
cat > "$base/slurm.conf" <<CONF
ClusterName=novelseg
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket=$base/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$base/state
SlurmdSpoolDir=$base/spool
SlurmctldPidFile=$base/slurmctld.pid
SlurmdPidFile=$base/slurmd.pid
SlurmctldLogFile=$base/slurmctld.log
SlurmdLogFile=$base/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(getconf _NPROCESSORS_ONLN) RealMemory=$(free -m | awk '/^Mem:/ {print int($2 * 0.9)}')
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$base/slurm.conf"
mkdir -p "$(dirname "$usual")"
ln -s "$base/slurm.conf" "$usual"
mkdir "$base/state" "$base/spool"
slurmctld -D & pids="$pids $!"
slurmd -D & pids="$pids $!"
for _ in $(seq 60); do
  if sinfo --noheader --format=%T 2>/dev/null | grep -q idle; then break; fi
  sleep 1
done
sinfo

git clone -q "$root" "$base/project"
cd "$base/project"
export PYTHONPATH="$base/project${PYTHONPATH:+:$PYTHONPATH}"
python -m workflow use "${PRESET:-demo}" --force
if [ -n "${VALUES:-}" ]; then cp "$VALUES" params.yaml; fi
# One node of few cores and no GPU: ask for what it has.
cores=$(getconf _NPROCESSORS_ONLN)
# There is no accounting: no account, and squeue tells how jobs end.
snakemake --profile profiles/slurm --slurm-no-account --slurm-status-command squeue \
  --slurm-init-seconds-before-status-checks 2 \
  --set-threads baseline=1 train=1 evaluate=1 features=1 prototypes="$cores" pseudolabels=1 \
  --set-resources baseline:gpu=0 features:gpu=0 pseudolabels:gpu=0 train:gpu=0 evaluate:gpu=0 \
  baseline:mem_mb=4000 train:mem_mb=4000 evaluate:mem_mb=4000 prototypes:mem_mb=4000 features:mem_mb=4000 \
  pseudolabels:mem_mb=4000 --seconds-between-status-checks 2
python -m workflow table
snakemake -n | tail -3
dvc status
snakemake -n 2>&1 | grep -q "Nothing to be done"
test "$(dvc status)" = "Data and pipelines are up to date."
python -m workflow audit
echo "Slurm ran $(find .snakemake/slurm -name '*.log' | wc -l) jobs; both engines have nothing to do"
