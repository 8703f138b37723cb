# SPDX-License-Identifier: Apache-2.0
# sed -E -f translate.sed LOG: the job of bench_translate.py, unrolled by class, because that is what sed is fastest with:
# one expression for each form of uid with and without a container, lines of other classes and lines of none skipped.
\#/kubepods#!b
\#/kubepods/burstable/pod#{
s#/kubepods/burstable/pod([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})/([0-9a-f]{64})#/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod\1_\2_\3_\4_\5.slice/docker-\6.scope#g
s#/kubepods/burstable/pod([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})#/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod\1_\2_\3_\4_\5.slice#g
s#/kubepods/burstable/pod([0-9a-f]{32})/([0-9a-f]{64})#/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod\1.slice/docker-\2.scope#g
s#/kubepods/burstable/pod([0-9a-f]{32})#/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod\1.slice#g
}
\#/kubepods/besteffort/pod#{
s#/kubepods/besteffort/pod([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})/([0-9a-f]{64})#/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod\1_\2_\3_\4_\5.slice/docker-\6.scope#g
s#/kubepods/besteffort/pod([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})#/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod\1_\2_\3_\4_\5.slice#g
s#/kubepods/besteffort/pod([0-9a-f]{32})/([0-9a-f]{64})#/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod\1.slice/docker-\2.scope#g
s#/kubepods/besteffort/pod([0-9a-f]{32})#/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod\1.slice#g
}
\#/kubepods/pod#{
s#/kubepods/pod([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})/([0-9a-f]{64})#/kubepods.slice/kubepods-pod\1_\2_\3_\4_\5.slice/docker-\6.scope#g
s#/kubepods/pod([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})#/kubepods.slice/kubepods-pod\1_\2_\3_\4_\5.slice#g
s#/kubepods/pod([0-9a-f]{32})/([0-9a-f]{64})#/kubepods.slice/kubepods-pod\1.slice/docker-\2.scope#g
s#/kubepods/pod([0-9a-f]{32})#/kubepods.slice/kubepods-pod\1.slice#g
}
\#/kubepods(/b[a-z]*)?"#{
s#/kubepods/(burstable|besteffort)"#/kubepods.slice/kubepods-\1.slice"#g
s#/kubepods"#/kubepods.slice"#g
}
