#!/bin/busybox sh
# The first program in a guest: from the file systems of the host (9p) it makes a root that may be written to and
# is forgotten, mounts cgroups as asked (cgroup=v1, v2 or hybrid on the kernel's command line), and hands over to
# /lab/in/start, which the test wrote: as pid 1, or (boot=systemd) as a service of a real systemd.
busybox=/bin/busybox
fail() {
  echo "guest: $*" >/dev/console
  $busybox poweroff -f
}
for applet in mount mkdir ln insmod switch_root hostname ip cat rmdir rm; do eval "$applet() { $busybox $applet \"\$@\"; }"; done

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do insmod "$module" || echo "guest: cannot load $module"; done

share() { mount -t 9p -o "trans=virtio,version=9p2000.L,msize=1048576,$3" "$1" "$2" || fail "cannot mount $1"; }
# layer TAG PLACE: the host's folder, below a tmpfs.
layer() {
  mkdir -p "/host/$1" "/rw/$1/upper" "/rw/$1/work" "$2"
  share "$1" "/host/$1" ro,cache=loose
  mount -t overlay -o "lowerdir=/host/$1,upperdir=/rw/$1/upper,workdir=/rw/$1/work" overlay "$2" || fail "cannot layer $1"
}
mount -t tmpfs tmpfs /rw
layer root /root
layer repository /root/repository
layer modules /root/repository/node_modules
mkdir -p /root/lab /root/usr/local/bin
share lab /root/lab rw
share node /root/usr/local/bin ro,cache=loose

hostname vm
echo vm >/root/etc/hostname
printf '127.0.0.1 localhost\n192.0.2.1 vm\n' >/root/etc/hosts
ip link set lo up
# An address that is not the loopback's, without which no name is looked up. The module makes dummy0 when it is loaded.
[ -e /sys/class/net/dummy0 ] || ip link add dummy0 type dummy
ip link set dummy0 up
ip addr add 192.0.2.1/24 dev dummy0

case " $(cat /proc/cmdline) " in
  *' boot=systemd '*)
    units=/root/etc/systemd/system
    mkdir -p $units/multi-user.target.wants
    cat >$units/lab.service <<'UNIT'
[Unit]
Description=What the test runs
After=dbus.socket
[Service]
Type=oneshot
ExecStart=/bin/bash /lab/in/start
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
TimeoutStartSec=infinity
[Install]
WantedBy=multi-user.target
UNIT
    ln -s ../lab.service $units/multi-user.target.wants/lab.service
    # The tests start these, or nobody needs them.
    for unit in slurmd slurmctld munge ssh; do
      rm -f $units/multi-user.target.wants/$unit.service /root/usr/lib/systemd/system/multi-user.target.wants/$unit.service
    done
    for unit in ssh.socket getty@tty1.service serial-getty@ttyS0.service systemd-networkd.service \
      systemd-timesyncd.service systemd-udevd.service systemd-udev-trigger.service systemd-hwdb-update.service \
      systemd-binfmt.service systemd-firstboot.service systemd-tpm2-setup.service apt-daily.timer \
      apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer; do
      ln -sf /dev/null $units/$unit
    done
    ln -sf /lib/systemd/system/multi-user.target $units/default.target
    exec $busybox switch_root /root /sbin/init
    ;;
esac

mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -t devtmpfs dev /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts devpts /root/dev/pts
mount -t tmpfs -o mode=1777 tmpfs /root/dev/shm
mount -t tmpfs -o mode=1777 tmpfs /root/tmp
mount -t tmpfs -o mode=755 tmpfs /root/run
ln -s /proc/self/fd /root/dev/fd

top=/root/sys/fs/cgroup
v1() { mkdir -p "$top/${2:-$1}" && mount -t cgroup -o "$1" cgroup "$top/${2:-$1}" || rmdir "$top/${2:-$1}"; }
all_v1() {
  mount -t tmpfs -o mode=755 tmpfs $top
  for controllers in cpuset cpu,cpuacct memory devices freezer blkio pids net_cls,net_prio perf_event hugetlb rdma; do v1 $controllers; done
  v1 none,name=systemd systemd
  for alias in cpu cpuacct; do ln -s cpu,cpuacct $top/$alias; done
  for alias in net_cls net_prio; do ln -s net_cls,net_prio $top/$alias; done
}
case " $(cat /proc/cmdline) " in
  *' cgroup=v2 '*)
    mount -t cgroup2 -o nsdelegate cgroup2 $top || fail 'cannot mount cgroup2'
    # As systemd does: what is made below has its controllers.
    for controller in $(cat $top/cgroup.controllers); do echo "+$controller" >$top/cgroup.subtree_control; done
    ;;
  *' cgroup=hybrid '*)
    all_v1
    mkdir $top/unified
    mount -t cgroup2 -o nsdelegate cgroup2 $top/unified || fail 'cannot mount cgroup2'
    ;;
  *' cgroup=v1 '*) all_v1 ;;
esac
exec $busybox switch_root /root /bin/bash /lab/in/start
