#!/usr/bin/env bash
# Start a SLURM cluster of one node, this machine, for the tests: as root on Debian or Ubuntu. Does nothing where one runs.
#
#   apt-get install slurmctld slurmd slurm-client munge     (with SLURM_INSTALL=1 the script does it)
#   tests/slurm.sh                             stop it: kill $(cat /var/lib/slurm-one-node/*.pid)
set -euo pipefail

if timeout 10 sinfo --noheader >/dev/null 2>&1; then
    echo "SLURM: running already"
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "SLURM: not started, only root can" >&2
    exit 1
fi
if [ -f /etc/slurm/slurm.conf ] && ! grep -q '^ClusterName=one-node-for-tests$' /etc/slurm/slurm.conf; then
    echo "SLURM: /etc/slurm/slurm.conf describes another cluster, which does not answer; it is left alone" >&2
    exit 1
fi
missing() {
    for program in slurmctld slurmd munged sbatch; do command -v $program >/dev/null || echo $program; done
}
if [ "$(missing)" ] && [ "${SLURM_INSTALL:-}" ] && command -v apt-get >/dev/null; then
    DEBIAN_FRONTEND=noninteractive sh -c \
        'apt-get update -qq && apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge procps'
fi
if [ "$(missing)" ]; then
    echo "SLURM: not started, no" $(missing) "here; apt-get install slurmctld slurmd slurm-client munge" >&2
    exit 1
fi

host=$(hostname --short)
state=/var/lib/slurm-one-node
mkdir -p /etc/slurm $state/ctld $state/d /run/munge /var/lib/munge /var/log/munge
cat >/etc/slurm/slurm.conf <<CONF
ClusterName=one-node-for-tests
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=1,sched_interval=1,sched_min_interval=100000,bf_interval=2
KillWait=2
ReturnToService=2
JobRequeue=1
MpiDefault=none
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/d
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(awk '/^MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF

# munged wants its folders to be its own user's, and refuses to log to a group-writable one
chown munge: /etc/munge /etc/munge/munge.key /run/munge /var/lib/munge /var/log/munge
pgrep -x munged >/dev/null || { rm -f /run/munge/*; runuser -u munge -- munged; }
pgrep -x slurmctld >/dev/null || { rm -rf $state/ctld/*; slurmctld || echo "SLURM: slurmctld did not start; its log follows below" >&2; }
pgrep -x slurmd >/dev/null || slurmd || echo "SLURM: slurmd did not start; its log follows below" >&2
for _ in $(seq 60); do
    if timeout 5 sinfo --noheader --format=%t 2>/dev/null | grep -q -x -E "idle|mix|alloc"; then
        sinfo
        exit 0
    fi
    sleep 1
done
echo "SLURM: did not come up within a minute; the last lines of its logs:" >&2
tail -n 5 $state/*.log >&2
exit 1
