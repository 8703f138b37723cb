#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# boot.sh ROOT NAME NODES [systemd-nspawn option...]: boot the node in the foreground (stdin must be /dev/null).
# NODES is the folder of all nodes' roots.
#
# Every cgroup hierarchy gets a private subtree, and the node sees nothing above it. Without it two nodes
# share /kubepods and one systemd tree, and each kubelet deletes the pods of the other.
set -eu
root=$1 name=$2 nodes=$3
shift 3
here=$(dirname "$(readlink -f "$0")")

for top in /sys/fs/cgroup/*/; do
    [ -e "$top/cgroup.procs" ] || continue
    own=$top/cgmigrate-lab-$name
    mkdir -p "$own"
    if [ -e "$own/cpuset.cpus" ]; then
        cat "$top/cpuset.cpus" >"$own/cpuset.cpus"
        cat "$top/cpuset.mems" >"$own/cpuset.mems"
        echo 1 >"$own/cgroup.clone_children"
    fi
    echo $$ >"$own/cgroup.procs"
done

# A new cgroup namespace alone leaves mounts whose root lies above it, so systemd would call itself
# /../init.scope. Mounted anew from inside the namespace, each hierarchy begins at the private subtree.
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes
exec unshare --cgroup --mount --propagation private sh -eu -c '
    nodes=$1 root=$2
    shift 2
    # A copy of another node'"'"'s mounts would keep its disk, or its network, alive after that node is gone.
    awk -v nodes="$nodes/" -v root="$root" \
        "index(\$2, \"/run/netns/\") == 1 ||
            index(\$2, nodes) == 1 && \$2 != root && index(\$2, root \"/\") != 1 {print \$2}" /proc/mounts |
        sort -r | while read -r point; do
            umount "$point" 2>/dev/null || ! mountpoint -q "$point"  # that node may be going at this moment
        done
    hierarchies=$(awk "\$3 == \"cgroup\" || \$3 == \"cgroup2\" {print \$2, \$3, \$4}" /proc/mounts)
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    echo "$hierarchies" | while read -r point type options; do
        mkdir -p "$point"
        if [ "$type" = cgroup2 ]; then
            mount -t cgroup2 cgroup2 "$point"
            continue
        fi
        controllers=$(echo "$options" | tr , "\n" | grep -vx -e rw -e ro -e relatime -e nosuid -e nodev -e noexec \
            -e xattr -e clone_children -e "release_agent=.*" | paste -sd,)
        case $controllers in name=*) controllers=none,$controllers ;; esac
        mount -t cgroup -o "$controllers" cgroup "$point"
    done
    # A console that nobody reads (passive) stops PID 1 in the middle of a shutdown, after some 8 KiB.
    exec systemd-nspawn "$@"
' sh "$nodes" "$root" --quiet --register=no --keep-unit --directory="$root" --machine="$name" --kill-signal=SIGRTMIN+3 --console=read-only \
    --private-network --capability=all --system-call-filter="@keyring bpf @mount" \
    --bind=/dev/kmsg --property=DeviceAllow=all --resolv-conf=off --timezone=off --link-journal=no \
    "--bind-ro=$here/init.sh:/usr/local/sbin/lab-init" "$@" /bin/sh /usr/local/sbin/lab-init
