# Ends what a test process left behind. Arguments: the user the servers ran as
# ("" for the one that runs this), and the directories of the test run.
# Standard input is a pipe whose other end only the test process holds: lines
# "pid N" and "gone N" say which processes are alive. When it closes, the test
# process is gone, however it went.
# shellcheck shell=sh
trap '' HUP INT TERM
owner=$1
shift
alive=' '

while read -r what pid; do
	case $what in
	pid) alive="$alive$pid " ;;
	gone) alive="${alive%%" $pid "*} ${alive#*" $pid "}" ;;
	esac
done

children() {
	grep -lsE "^PPid:[[:space:]]+$1\$" /proc/[0-9]*/status | cut -d/ -f3
}

# A parent is stopped first, so that it starts nothing while its children end.
kill_tree() {
	kill -STOP "$1" || return 0
	for child in $(children "$1"); do
		kill_tree "$child"
	done
	kill -KILL "$1"
}

for pid in $alive; do
	kill_tree "$pid"
done

# A killed server leaves the System V segment it locks its data directory with.
remove_shm() {
	ipcrm -m "$1" && return
	[ -z "$owner" ] || setpriv --reuid="$owner" --clear-groups ipcrm -m "$1"
}
for root in "$@"; do
	for file in "$root"/*/data/postmaster.pid; do
		[ -f "$file" ] || continue
		segment=$(sed -n '7s/.*[[:space:]]\([0-9][0-9]*\)[[:space:]]*$/\1/p' "$file")
		[ -z "$segment" ] || remove_shm "$segment"
	done
done

# What was just killed may still have been writing.
tries=0
until rm -rf "$@" || [ "$tries" -ge 100 ]; do
	tries=$((tries + 1))
	sleep 0.1
done
