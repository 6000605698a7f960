#!/bin/bash
# Makes a real Slurm in a guest, as root: munged, slurmctld, slurmd (and sshd, which doctor looks at), and waits until
# its nodes are idle. What it should be like comes in the environment:
#   BOOT          bare (this shell's parent is init), or systemd (services, slurmctld as SlurmUser=slurm)
#   CG            v1, v2, or hybrid, where Slurm uses v1
#   NODES         1 (vm), or 2 (vm1 in the network of this machine, vm2 in one of its own: two slurmd)
#   CGCONF_EXTRA  lines for cgroup.conf
#   CONFIGLESS    1: slurmd has its configuration from slurmctld, and /etc/slurm has none
#   CONTAINER     job_container/tmpfs (up to 25.05) or namespace/tmpfs: each job has a /tmp of its own
#   ACCOUNTING    1: slurmdbd, with the database that lies ready in this root (bare alone)
# Ends with 1 and the logs where no node gets idle.
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
boot=${BOOT:-bare} cg=${CG:-v2} nodes=${NODES:-1} configless=${CONFIGLESS:-} accounting=${ACCOUNTING:-}
container=${CONTAINER:-}
conf=/etc/slurm
[ -z "$configless" ] || conf=/etc/slurm-ctld
base=/var/spool/lab logs=/var/log/lab
if [ "$nodes" = 2 ]; then names='vm1 vm2' spool=$base/%n; else names=vm spool=$base/spool; fi

fail() {
  echo "up.sh: $*"
  for log in "$logs"/*.log; do
    echo "--- $log"
    tail -n 25 "$log"
  done
  [ "$boot" != systemd ] || journalctl --no-pager -n 25 -u munge -u slurmctld -u slurmd
  sinfo -N -l
  exit 1
}

folders() {
  mkdir -p $base/state $logs /etc/slurm $conf /run/munge /run/sshd /run/slurm /run/slurmctld
  for name in $names; do mkdir -p "${spool/\%n/$name}"; done
  # The guest's clock starts anew each time, and a state or configuration of the root would be another Slurm's.
  rm -f /etc/slurm/*.conf
  chown munge: /run/munge
  chown slurm $base/state $logs /run/slurmctld
}

address_of() { # NAME
  case $1 in vm) echo 127.0.0.1 ;; vm?) echo "198.18.0.${1#vm}" ;; esac
}

# vm2's network, and a cable between the two. It has a name, by which the tests enter it.
networks() {
  ip netns add vm2 && ip link add vm1 type veth peer name vm2 netns vm2 || return
  for name in $names; do
    local ip=(ip) number=${name#vm}
    [ "$name" = vm1 ] || ip=(ip -n "$name")
    "${ip[@]}" addr add "198.18.0.$number/24" dev "$name" || return
    "${ip[@]}" addr add "fd73:6c75::$number/64" dev "$name" nodad || return
    for link in lo "$name"; do "${ip[@]}" link set "$link" up || return; done
  done
}

slurm_conf() {
  local cpus
  cpus=$(nproc)
  cat <<CONF
ClusterName=lab
SlurmctldHost=vm($(address_of "${names%% *}"))
SlurmUser=slurm
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=$base/state
SlurmdSpoolDir=$spool
SlurmctldLogFile=$logs/slurmctld.log
SlurmdLogFile=$logs/slurmd-%n.log
SlurmctldPidFile=/run/slurmctld/slurmctld.pid
SlurmdPidFile=/run/slurmd-%n.pid
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/cgroup
PrologFlags=contain
SchedulerParameters=bf_interval=2,sched_interval=2,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
GresTypes=gpu
ReturnToService=2
MpiDefault=none
KillWait=3
# Emulated: what takes a second elsewhere may take half a minute here.
MessageTimeout=60
# The clock is set by an hour: no node is to be given up for that.
SlurmdTimeout=0
${configless:+SlurmctldParameters=enable_configless
LaunchParameters=ulimit_pam_adopt}
${container:+$(container_key)=$container}
${accounting:+AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
JobAcctGatherFrequency=task=1}
CONF
  [ "$nodes" = 1 ] || echo CommunicationParameters=EnableIPv6
  for name in $names; do
    # Both at SlurmdPort: caller ID is asked there, whatever the Port of a node is (measured).
    echo "NodeName=$name NodeHostname=vm NodeAddr=$(address_of "$name") CPUs=$cpus CoresPerSocket=$cpus RealMemory=1500 Gres=gpu:1 State=UNKNOWN"
  done
  # A node that is idle may take several jobs on one CPU: a cell needs six at a time, and has two CPUs.
  echo 'PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8'
}

container_key() { case $container in namespace/*) echo NamespaceType ;; *) echo JobContainerType ;; esac }

container_conf() { printf 'AutoBasePath=true\nBasePath=%s\n' $base/containers; }

cgroup_conf() {
  case $cg in
    v2) echo CgroupPlugin=cgroup/v2 ;;
    *)
      # 20.11 has no plugins, and takes no key that it does not know.
      case $(slurmd -V) in *' 20.'* | *' 21.'*) ;; *) echo CgroupPlugin=cgroup/v1 ;; esac
      echo CgroupMountpoint=/sys/fs/cgroup
      ;;
  esac
  printf 'Constrain%s=yes\n' Cores Devices RAMSpace
  # The command's environment may have lines or \n.
  [ -z "${CGCONF_EXTRA:-}" ] || printf '%b\n' "$CGCONF_EXTRA"
}

# A made-up GPU with the numbers of /dev/full: only jobs that ask for it may open it. Up to 22.05 a GRES without a
# plugin of its own is not kept from anybody (measured).
gres_conf() { echo 'Name=gpu File=/dev/lab0'; }

slurmdbd_conf() {
  cat <<CONF
DbdHost=vm
DbdAddr=127.0.0.1
SlurmUser=slurm
AuthType=auth/munge
LogFile=$logs/slurmdbd.log
PidFile=/run/slurmctld/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=slurm_acct_db
CONF
}

slurmd_words() { [ -z "$configless" ] || echo "--conf-server vm:6817"; }

start_services() {
  [ "$nodes" = 1 ] || fail 'two slurmd are for bare machines'
  [ -z "$accounting" ] || fail 'slurmdbd is for bare machines'
  mkdir -p /etc/default
  # %n names no node where systemd starts slurmctld, and slurmctld logs into a file of its own.
  [ -z "$configless" ] || echo "SLURMCTLD_OPTIONS='-f $conf/slurm.conf'" >/etc/default/slurmctld
  echo "SLURMD_OPTIONS='$(slurmd_words)'" >/etc/default/slurmd
  if [ -n "$configless" ]; then
    mkdir -p /etc/systemd/system/slurmctld.service.d
    printf '[Unit]\nConditionPathExists=\n' >/etc/systemd/system/slurmctld.service.d/lab.conf
    systemctl daemon-reload
  fi
  systemctl start munge || fail 'munge did not start'
  systemctl start slurmctld || fail 'slurmctld did not start'
  systemctl start slurmd ssh || fail 'slurmd did not start'
}

wait_for() { # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@" 2>/dev/null; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.2
  done
}

listens() { (: <>"/dev/tcp/127.0.0.1/$1"); }

# Before the first start of slurmctld, which gives up where it has none.
start_slurmdbd() {
  install -d -o slurm /run/mysqld
  slurmdbd_conf >$conf/slurmdbd.conf
  chown slurm $conf/slurmdbd.conf
  chmod 600 $conf/slurmdbd.conf
  mariadbd --defaults-file=/etc/lab-database.cnf >$logs/mariadbd.log 2>&1 &
  wait_for 120 test -S /run/mysqld/mysqld.sock || fail 'mariadbd does not listen'
  stamp 'mariadbd listens'
  slurmdbd || fail 'slurmdbd did not start'
  wait_for 120 listens 6819 || fail 'slurmdbd does not listen'
  stamp 'slurmdbd listens'
}

# slurmd NAME, as a service manager would start it: in a cgroup of its own, below the slice Slurm looks for.
start_slurmd() {
  local words=() place within=()
  [ "$nodes" = 1 ] || words=(-N "$1")
  [ "$1" != vm2 ] || within=(nsenter --net=/run/netns/vm2)
  if [ "$cg" = v2 ]; then
    place=/sys/fs/cgroup/system.slice/slurmd${words[1]:+-$1}.service
    mkdir -p "$place"
    # shellcheck disable=SC2046 # words
    (echo $BASHPID >"$place/cgroup.procs" && exec "${within[@]}" slurmd "${words[@]}" $(slurmd_words))
  else
    # shellcheck disable=SC2046
    slurmd "${words[@]}" $(slurmd_words)
  fi
}

start_bare() {
  if [ "$cg" = v2 ]; then
    mkdir -p /sys/fs/cgroup/system.slice
    for place in /sys/fs/cgroup /sys/fs/cgroup/system.slice; do
      echo '+cpuset +cpu +memory +pids' >$place/cgroup.subtree_control || fail "no controllers below $place"
    done
  fi
  runuser -u munge -- munged || fail 'munged did not start'
  wait_for 60 test -S /run/munge/munge.socket.2 || fail 'munged does not listen'
  [ -z "$accounting" ] || start_slurmdbd
  slurmctld -f $conf/slurm.conf || fail 'slurmctld did not start'
  # Configless: asks slurmctld at its start.
  wait_for 120 grep -q 'Running as primary controller' $logs/slurmctld.log || fail 'slurmctld does not run'
  for name in $names; do start_slurmd "$name" || fail "slurmd of $name did not start"; done
  /usr/sbin/sshd || fail 'sshd did not start'
}

all_idle() { [ "$(sinfo -h -N -o %T | sort -u)" = idle ]; }

stamp() { echo "$(cut -d ' ' -f 1 /proc/uptime) $*" >>/lab/out/times; }

stamp 'Slurm begins'
folders
[ "$nodes" = 1 ] || networks || fail 'no network for a second node'
slurm_conf >$conf/slurm.conf
cgroup_conf >$conf/cgroup.conf
mknod -m 666 /dev/lab0 c 1 7 || fail 'no device'
gres_conf >$conf/gres.conf
[ -z "$container" ] || container_conf >$conf/job_container.conf
# slurmctld's is SlurmUser's where nobody else reads it; what slurmd reads must be root's.
[ -z "$configless" ] || chown -R slurm: $conf
case $boot in systemd) start_services ;; *) start_bare ;; esac
wait_for 120 all_idle || fail 'no idle node'
stamp 'its nodes are idle'
slurmd -V
sinfo -h -N
