#!/bin/sh
# scenario.sh DEB RPM PORT OTHER COMMANDS: what an operator does with the packages, on a
# machine with systemd. On these ports of this host are servers of two clusters, which let
# "replicator" in by a password. COMMANDS is a script with what docs/install.md says.
set -eux
deb=$1 rpm=$2 port=$3 other=$4 documented=$5
export DEBIAN_FRONTEND=noninteractive
fail() {
	echo "failed: $*"
	exit 1
}
show() { systemctl show --value --property "$2" "$1"; }
refused() {
	systemctl start "$1" && fail "$1 started"
	[ "$(show "$1" ExecMainStatus)" = "$2" ] || fail "$1 ended with $(show "$1" ExecMainStatus), not $2"
	[ "$(show "$1" ActiveState)" = failed ] || fail "$1 is $(show "$1" ActiveState), it is started again"
}
eventually() {
	deadline=$(($(date +%s) + 60))
	until "$1"; do
		[ "$(date +%s)" -lt "$deadline" ] || fail "$1: not within a minute"
		sleep 0.2
	done
}
streams() { case $(show walrecv@main StatusText) in streaming:*) ;; *) return 1 ;; esac }
runs_anew() { [ "$(show walrecv@main NRestarts)" -gt "$restarts" ] && [ "$(show walrecv@main SubState)" = running ]; }

# There is no journal here.
mkdir -p /etc/systemd/system/walrecv-.service.d /etc/systemd/system/walrecv@.service.d
printf '[Service]\nStandardOutput=append:/output\nStandardError=append:/output\n' |
	tee /etc/systemd/system/walrecv@.service.d/output.conf >/etc/systemd/system/walrecv-.service.d/output.conf
trap 'cat /output || :' EXIT
# To list the manual again after each change of a package takes longer than the rest.
rm -f /var/lib/man-db/auto-update

dpkg --force-depends -i "$deb"
id walrecv
[ "$(stat -c '%U:%G %a' /etc/walrecv)" = 'root:walrecv 750' ]
[ -z "$(systemd-analyze verify walrecv@main.service walrecv-backup@main.timer walrecv-drill@main.timer walrecv-prune@main.timer 2>&1)" ]
for unit in walrecv walrecv-backup walrecv-drill walrecv-prune; do
	systemd-analyze security --offline=true --threshold=20 "/usr/lib/systemd/system/$unit@.service" >/dev/null
done

# One file for each cluster, and its secrets beside it.
install -d -o walrecv -g walrecv -m 750 /srv/walrecv
cd /root
cat >main.toml <<X
archive = "/srv/walrecv"
dbname = "host=127.0.0.1 port=$port user=replicator"
[receive]
directory = "/var/lib/walrecv/main"
slot = "main"
ensure_slot = true
[prune]
keep_backups = 2
X
install -m 640 -g walrecv main.toml /etc/walrecv/
systemctl start walrecv@main && fail 'started without a password'
[ "$(show walrecv@main ExecMainStatus)" = 1 ]
[ "$(show walrecv@main ActiveState)" = activating ]
systemctl stop walrecv@main
echo '127.0.0.1:*:*:replicator:secret' >main.pgpass
echo '[default]' >main.aws
sh -eux "$documented"
systemctl is-active walrecv@main walrecv-backup@main.timer walrecv-prune@main.timer walrecv-drill@main.timer
eventually streams
before=$(show walrecv@main MainPID)
systemctl reload walrecv@main
eventually streams
[ "$(show walrecv@main MainPID)" = "$before" ]
[ "$(stat -c '%U:%G %a' /var/lib/walrecv/main)" = 'walrecv:walrecv 750' ]

# A base backup, what is kept, and the proof that it restores, within their bounds.
systemctl start walrecv-backup@main
systemctl start walrecv-prune@main
grep '^removed ' /output || fail 'nothing was removed'
mkdir /etc/systemd/system/walrecv-drill@main.service.d
printf '[Service]\nReadOnlyPaths=/tmp\nExecStart=\nExecStart=/usr/bin/walrecv drill --config /etc/walrecv/main.toml --json\n' >/etc/systemd/system/walrecv-drill@main.service.d/json.conf
systemctl daemon-reload
systemctl start walrecv-drill@main
grep -Eq '"success": ?true' /output || fail 'the drill did not say that it restored'
grep -Eq '"confined": ?true' /output || fail 'the restored server was not confined'

# Killed, it is started again; by a new program it is not, and it is not removed.
restarts=$(show walrecv@main NRestarts)
kill -9 "$(show walrecv@main MainPID)"
eventually runs_anew
before=$(show walrecv@main MainPID)
touch /usr/lib/systemd/system/walrecv@.service
systemctl daemon-reload
dpkg --force-depends -i "$deb" | tee /upgrade
grep 'restart these' /upgrade
[ "$(show walrecv@main NeedDaemonReload)" = no ]
dpkg --force-depends -r walrecv && fail 'removed while it runs'
[ "$(show walrecv@main MainPID)" = "$before" ]

# What does not help to try again is not tried again.
systemctl stop walrecv@main
[ "$(show walrecv@main Result)" = success ]
cp /etc/walrecv/main.toml /right.toml
sed -i "s/port=$port/port=$other/" /etc/walrecv/main.toml
refused walrecv@main 4
sed 's/^slot = .*/slot = "gone"/; /^ensure_slot/d' /right.toml >/etc/walrecv/main.toml
refused walrecv@main 5
sed 's/^slot = .*/slot = "pg-2"/' /right.toml >/etc/walrecv/main.toml
refused walrecv@main 2

systemctl stop 'walrecv*@main.timer'
dpkg --force-depends -r walrecv
[ "$(show walrecv@main LoadState)" = not-found ]
dpkg --force-depends -P walrecv
[ -d /var/lib/walrecv/main ]
[ -f /etc/walrecv/main.toml ]
id walrecv

# The other package does the same, also where systemd makes no users.
rpm() { command rpm --force-debian --nodeps "$@"; }
userdel walrecv
mv /usr/bin/systemd-sysusers /
mv /etc/walrecv /configured
rpm -i "$rpm"
[ -z "$(rpm -V walrecv)" ]
[ "$(stat -c '%U:%G %a' /etc/walrecv)" = 'root:walrecv 750' ]
chown -R walrecv:walrecv /srv/walrecv /var/lib/walrecv
cp /configured/main.pgpass /etc/walrecv/main.pgpass
install -g walrecv -m 640 /right.toml /etc/walrecv/main.toml
systemctl start walrecv@main
eventually streams
before=$(show walrecv@main MainPID)
rpm -U --force "$rpm" >/upgrade
grep 'restart these' /upgrade
[ "$(stat -c '%U:%G %a' /etc/walrecv)" = 'root:walrecv 750' ]
rpm -e walrecv && fail 'removed while it runs'
[ "$(show walrecv@main MainPID)" = "$before" ]
systemctl stop walrecv@main
rm /etc/walrecv/*
rpm -e walrecv
[ ! -e /usr/bin/walrecv ]
[ ! -e /etc/walrecv ]
[ -d /var/lib/walrecv/main ]
id walrecv
trap - EXIT
