//! What `--help` prints, and the names of options in it.

pub const USAGE: &str = "\
origin_proxy                  an origin and a caching proxy on loopback: a walk through what a cache does,
                              then both serve on until Ctrl-C
origin_proxy --once           the walk only; the exit status is 1 if a row is not as expected
origin_proxy fleet            a walk through a fleet: three proxies that share a Redis Cluster, one of whose nodes is killed under load,
                              and then one of the proxies. Everything is started on loopback, and ends with the walk
    --server PROGRAM          redis-server (default), or valkey-server
origin_proxy origin           the origin alone
    --listen ADDR             where, default 127.0.0.1:8081
origin_proxy proxy            the proxy alone, before any origin
    --config FILE             options in a file of TOML, by the names that they have here (docs/RUNNING.md). Those of the
                              command line outweigh it
    --upstream URL            the origin, http://HOST[:PORT] or https://HOST[:PORT]; required. If it is given more than
                              once, requests go to each in turn, except for those that fail
    --upstream-ca FILE        the certificates (PEM) to trust for https, instead of the system's
    --health-path PATH        what each upstream is asked for, to find out whether it is healthy: any 2xx or 3xx says so
    --health-interval SECONDS how often, and how long the answer may take; default 5
    --shield URL              another proxy, which is asked in place of the origin; each --upstream is asked only while the
                              shield can't be reached (docs/SHIELDING.md)
    --edge URL                at a shield: the admin service of a proxy that asks it; may be given more than once. What is
                              purged here is then purged there
    --peer-token-file FILE    the token by which the proxies know each other, 16 characters or more. Of several lines, the
                              first is shown, and all are believed. The file is read again on SIGHUP
    --listen ADDR             where, default 127.0.0.1:8080
    --name NAME               what this proxy is called in Cache-Status, Via and X-Served-By, default larder
    --admin ADDR              where the admin service listens (docs/ADMIN.md), and GET /health and /health/live, which need no token;
                              by default nowhere
    --admin-token-file FILE   its token, 16 characters or more; each line is one. The file is read again on SIGHUP
    --tls-cert FILE           clients speak TLS: the certificate (PEM), with those of authorities in between
    --tls-key FILE            its key (PEM). Both files are read again on SIGHUP
    --host WHOSE              the Host that the origin gets: client, the one that was asked for (default); upstream,
                              the origin's own: then Location and Content-Location are rewritten for the client
    --profile NAME            default: careful with cookies and credentials; rfc9111: all that the RFC permits; cloudfront,
                              fastly: what these services do
    --policy FILE             what is cached, under which key, for how long: in TOML, or in AWS's JSON for the profile
                              cloudfront (docs/POLICY.md). Options outweigh the file, and the file the profile. The file is
                              read again on SIGHUP
    --candidate FILE          another policy, which is asked and counted, and never acted on: on SIGHUP and at the end, the
                              proxy prints how many more hits it would have had, or fewer
    --key-header NAME         a request field that is in every key; may be given more than once
    --graphql                 the answer to a POST is stored if the POST is certainly a GraphQL query
    --viewer-headers          the origin gets fields such as CloudFront-Is-Mobile-Viewer (docs/PROXY.md); on in the profile
                              cloudfront and with either of these files
    --geo-db FILE             a database of cities or countries in MaxMind's format, for CloudFront-Viewer-Country and others
    --asn-db FILE             such a database of networks, for CloudFront-Viewer-ASN
    --access-log FILE         a line for each request, added to a file, which is opened again on SIGHUP; - is the standard output
    --access-log-format FORMAT common (default) or json (docs/WATCHING.md)
    --debug-token-file FILE   the first line is a token, 16 characters or more: it is reported what the cache did only to
                              requests with it in Larder-Debug, and to other proxies. The file is read again on SIGHUP
    --server-timing PERCENT   of so many answers, Server-Timing says what the cache did and how long the origin took
    --store STORE             where responses are stored: memory (default); disk:PATH or disk:PATH,SIZE, a folder of this proxy's
                              own (docs/DISK.md), default 10GiB; or what several proxies share: redis://HOST[:PORT],
                              redis-sentinel://HOST[:PORT],…/NAME, redis-cluster://HOST[:PORT],…, with rediss for TLS, and with
                              USER:PASSWORD@ before the host (docs/FLEET.md). If it is given more than once, the nearest one
                              comes first: memory, the folder, Redis. A folder before Redis begins empty at each start, and
                              gains little
    --memory SIZE             bytes held by --store memory where there is no other store, default 256MiB
    --snapshot FILE           what --store memory holds is written there when the proxy is stopped, and read when it is started
    --near SIZE               bytes of memory before another store. It implies --store memory; with --store memory and without
                              this, 256MiB
    --admit-after N           a response is stored when it has been asked for N times, 1 to 255, so that one pass over an archive
                              does not wear the disk. With memory before another store, memory keeps it at once (up to
                              8MiB), and the other one after N requests
    --lease                   all proxies that share a store in Redis make one call for what all of them lack
    --store-namespace NAME    what the proxies that share a store have in common; default larder
    --store-secret-file FILE  the first line is a secret, 16 characters or more, the same for all of these proxies. Without it, clients
                              can look for URLs that keep others out of the store
    --store-ca FILE           the certificates (PEM) to trust for rediss, instead of those that browsers trust
    --store-deadline SECONDS  how long a look-up or a purge in Redis may take, default 0.1
    --store-replicas N        how many replicas have to have a purge, too, before it has succeeded; default none
    --max-object SIZE         the largest object stored: default 8MiB, or less where --memory or the folder is small; with --store
                              disk and without Redis, a quarter of the folder's size. More than nine twentieths is an error
    --slice SIZE              large files are asked for, and stored, in slices of this size, so that a part of one costs no more
                              than the slices that it touches (docs/LARGE.md); off by default
    --slice-path PATTERN      only for these paths, such as /films/*; may be given more than once. * also matches /
    --timeout SECONDS         how long a call may last without a byte to or from the origin, default 30
    --drain SECONDS           how long open requests may take to end when the proxy is stopped, default 10; a second
                              signal ends them at once
    --drain-wait SECONDS      how long it goes on before that, with 503 at /health and Connection: close in each answer; default 0
    --workers N               threads, default one for each core
  what clients may do:
    --head SECONDS            how long a connection may take to send its first request head, or one that it has begun,
                              default 20
    --head-size SIZE          the largest head of a request, default 64KiB
    --idle SECONDS            how long a connection may be without a request, default 60
    --ping SECONDS            how long an HTTP/2 connection may be silent before it is pinged, and how long the answer
                              may take, default 20
    --stall SECONDS           how long a client may take nothing of its answer, or send nothing of its content, default 30
    --max-fields N            the most fields of a request, default 100
    --max-query SIZE          the largest content of a QUERY that is stored, default 16KiB
    --max-streams N           the most open requests of an HTTP/2 connection, default 100
    --max-connections N       of all clients; the default follows from the limit of open files, as does the next one
    --max-connections-per-address N
                              default half of --max-connections; for IPv6, an address is its first 64 bits
  what calls clients may have under way at the origin; hits are not counted:
    --max-calls N             in all; default a fourth of the descriptors that are free
    --max-calls-per-connection N
                              default 64, fewer with few descriptors
    --max-calls-per-address N default 256, fewer with few descriptors
    --max-calls-per-upstream N
                              at each --upstream; default as many as in all
    --call-wait SECONDS       how long a request waits for its call, then 503; default 2
  what the origin may do:
    --max-answer-fields N     the most fields of an answer, default 1000
origin_proxy check-config FILE prints what was understood of a file for --config and of the files that it names, or what is
                              wrong with one of them: then the exit status is 1
origin_proxy check-policy FILE prints what was understood of a policy, or what is wrong with it: then the exit status is 1
    --profile, --key-header   as for the proxy
    SIZE is a number of bytes, or one with KiB, MiB or GiB";

/// The names of the proxy's options, as [`USAGE`] has them.
pub fn options() -> impl Iterator<Item = &'static str> {
    let of_proxy = USAGE.lines().skip_while(|line| !line.starts_with("origin_proxy proxy "));
    let of_proxy = of_proxy.take_while(|line| !line.starts_with("origin_proxy check-"));
    of_proxy.filter_map(|line| line.trim_start().strip_prefix("--")?.split(' ').next())
}
