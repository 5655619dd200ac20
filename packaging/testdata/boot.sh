#!/bin/sh
# boot.sh SCRATCH SCRIPT ARGUMENT...: a copy of this system, with a systemd of its own as
# the first process, that runs a script and ends. What is written in it is gone then,
# but for SCRATCH/result: the exit code of the script, and SCRATCH/log. In namespaces:
#
#	unshare --mount --pid --fork --uts --ipc --cgroup --kill-child boot.sh ...
set -eu
scratch=$1 script=$2
shift 2
hostname walrecv-test
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
cd /mnt/root
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mkdir -p run/systemd/system
mount -t tmpfs tmpfs tmp
mkdir -p ".$scratch"
mount --bind "$scratch" ".$scratch"
# Of the groups of processes only those that systemd keeps account with.
mount -t tmpfs tmpfs sys/fs/cgroup
mkdir sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd,xattr cgroup sys/fs/cgroup/systemd
# Nothing of this system is started, only the script.
rm -rf etc/systemd/system/*.wants
cat >run/systemd/system/script.target <<X
[Unit]
DefaultDependencies=no
Requires=script.service
X
{
	echo '[Unit]'
	echo 'DefaultDependencies=no'
	echo '[Service]'
	echo 'Type=oneshot'
	# shellcheck disable=SC2016 # that is for the shell of the service
	printf 'ExecStart=/bin/sh -c '\''"$0" "$@" >%s/log 2>&1; echo $? >%s/result'\'' %s' "$scratch" "$scratch" "$script"
	printf ' "%s"' "$@"
	echo
	echo 'ExecStopPost=+/bin/kill -s RTMIN+4 1'
} | sed 's/\$/$$/g' >run/systemd/system/script.service
mkdir old
pivot_root . old
umount -l old
# Mounts that systemd makes for a service have to be seen by it.
mount --make-rshared /
export container=walrecv
exec /lib/systemd/systemd --system --unit=script.target --log-level=warning --log-target=console --show-status=no
