# SPDX-License-Identifier: Apache-2.0
# perl -p translate.pl LOG: the job of bench_translate.py as a Perl program that remembers what it has translated.
BEGIN {
    sub slice {
        my ($qos, $uid, $id, $rest) = $_[0] =~ m{^/kubepods(?:/(burstable|besteffort))?(?:/pod([0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:/([0-9a-f]{64}))?)?(/[a-z]+\.[a-z_.]+)?$}
            or return $_[0];
        $uid =~ tr/-/_/;
        my $name = $qos ? "kubepods-$qos" : "kubepods";
        "/kubepods.slice" . ($qos && "/$name.slice") . ($uid && "/$name-pod$uid.slice") . ($id && "/docker-$id.scope") . $rest;
    }
}
s{(/kubepods(?![.\w-])[\w/.+*-]*)}{$seen{$1} //= slice($1)}ge
