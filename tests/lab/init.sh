#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# init.sh: the node's PID 1 until it becomes systemd (bound to /usr/local/sbin/lab-init).
#
# systemd asks once, at its start, which v1 controllers it may write to. nspawn mounts them read-only, and
# a node whose systemd manages no controller has no /sys/fs/cgroup/memory/system.slice, as every real one has.
set -eu
for point in /sys/fs/cgroup/*/; do
    mount -o remount,rw,bind "$point"
done
mount --make-rshared /
if [ -n "${LAB_ADDRESS-}" ]; then
    # host0 is a cable to the bridge of a cluster; the others' pods are behind their nodes.
    ip addr add "$LAB_ADDRESS/24" dev host0
    ip link set host0 up
    echo "$LAB_ROUTES" | tr ';' '\n' | sed 's/^/route add /' | ip -batch -
    unset LAB_ADDRESS LAB_ROUTES
else
    # No cable leads out of the node; the kubelet only wants an address and a default route.
    ip link add host0 type bridge
    ip addr add 10.99.0.2/24 dev host0
    ip link set host0 up
fi
ip link set lo up
ip route add default via 10.99.0.1
# The kubelet asks a cloud who it is before it starts any pod; without an answer it waits 6 s for one.
ip route add unreachable 169.254.169.254
exec /lib/systemd/systemd
