#!/usr/bin/env bash
# The Debian package as an operator meets it: installed, upgraded, refused, removed and purged by the real dpkg,
# with the real nginx running.
#
# All of it happens in a root of its own, a layer over this machine's that goes away with the process, in
# namespaces of their own. The machine keeps its packages, its nginx and its ports. It needs root.
#
# usage: t/deb.sh [DIRECTORY WITH THE PACKAGES]
set -euo pipefail

if [ "${1:-}" != --inside ]; then
  cd "$(dirname "$0")/.."
  sudo=
  [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo unshare --mount --net --pid --fork true 2>/dev/null || {
    echo "this machine gives root no namespaces (a container?): the package cannot be tried here"
    exit 77
  }
  packages=${1:-target/deb}
  work=$PWD/target/deb-test
  rm -rf "$work"
  mkdir -p "$work"/{debs,again,root}

  first=$(echo "$packages"/libnginx-mod-http-px_*-1+*.deb)
  dpkg-deb -x "$first" "$work/first"
  module=$work/first/usr/lib/nginx/modules/ngx_http_px_module.so
  # A module that nginx refuses to load: the sizes it says it was built with are wrong.
  sed 's/8,4,8,/8,4,9,/' "$module" >"$work/misfit.so"
  cmp -s "$module" "$work/misfit.so" && { echo "the module has no signature"; exit 1; }
  export DPKG_DEB_COMPRESSOR_TYPE=none
  build() { packaging/deb/build --pxctl '' --out "$work/debs" "$@" >/dev/null; }
  build --module "$module" --revision 1
  build --module "$module" --revision 2
  build --module "$work/misfit.so" --revision 3
  build --module "$module" --revision 4
  build --module "$module" --revision 5 --nginx 1.22.0-1
  # Built again, of a file with another time: the same bytes.
  touch "$module"
  packaging/deb/build --pxctl '' --out "$work/again" --module "$module" --revision 1 >/dev/null
  cmp "$work"/debs/*-1+*.deb "$work"/again/*-1+*.deb || { echo "FAILED: the same module gives another package"; exit 1; }
  echo "ok: the same module gives the same package"
  # The same nginx with other structures, as a security update left it (see t/abi_guard.sh).
  if grep -q '"1.22.1"' "$NGINX_SOURCE_DIR/src/core/nginx.h"; then cp -L "$(t/host patched)/nginx" "$work/patched"; fi
  exec $sudo unshare --mount --net --pid --fork --kill-child bash "$0" --inside "$work"
fi

work=$2
if [ -z "${3:-}" ]; then
  # Layer and mount points are in memory: the upper layer cannot be an overlay itself, as it is in containers.
  mount -t tmpfs tmpfs "$work/root"
  mkdir "$work"/root/{upper,work,root}
  root=$work/root/root
  mount -t overlay overlay -o "lowerdir=/,upperdir=$work/root/upper,workdir=$work/root/work" "$root"
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs tmpfs "$root/run"
  mount -t tmpfs tmpfs "$root/tmp"
  ip link set lo up
  cp -r "$work/debs" "$0" "$root/tmp/"
  [ ! -e "$work/patched" ] || cp "$work/patched" "$root/tmp/"
  exec chroot "$root" /bin/bash /tmp/deb.sh --inside / go
fi

export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 HOME=/root
unset DPKG_FRONTEND_LOCKED
cd /tmp
failed=0
passed=1    # the packages are reproducible, above
check() { # NAME COMMAND…
  local name=$1
  shift
  if "$@" >/tmp/check.out 2>&1; then
    echo "ok: $name"
    passed=$((passed + 1))
  else
    echo "FAILED: $name"
    sed 's/^/    /' /tmp/check.out /tmp/said 2>/dev/null | tail -20
    failed=$((failed + 1))
  fi
}
not() { ! "$@"; }
deb() { echo /tmp/debs/libnginx-mod-http-px_*-"$1"+*.deb; }
dpkg_says() { rc=0; dpkg "$@" >/tmp/said 2>&1 || rc=$?; }
installed() { dpkg-query -W -f='${db:Status-Status} ${Version}' libnginx-mod-http-px 2>/dev/null; }
is_installed() { [[ $(installed) == "installed "*-"$1"+nginx* ]]; }
said() { grep -qF -- "$1" /tmp/said; }
valid() { nginx -t -q; }

link=/etc/nginx/modules-enabled/70-mod-http-px.conf
module=/usr/lib/nginx/modules/ngx_http_px_module.so
linked() { [ "$(readlink $link)" = /usr/share/nginx/modules-available/mod-http-px.conf ] && [ ! -e $link.removed ]; }
unlinked() { [ ! -L $link ]; }

# The configuration: without a word of the module, or with it on. Nobody answers on port 9: visitors pass.
conf() {
  local px=
  [ "$1" = plain ] || px='px_enabled on; px_app_id PXabcd1234; px_auth_token t; px_cookie_secret s;
        px_backend_url http://127.0.0.1:9; px_backend_collector_url http://127.0.0.1:9; px_ssl_verify off;
        add_header x-verdict $px_verdict;'
  cat >/etc/nginx/nginx.conf <<CONF
user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log /tmp/error.log notice;
include /etc/nginx/modules-enabled/*.conf;
events {}
http {
    access_log off;
    server {
        listen 127.0.0.1:8080;
        root /tmp/www;
        $px
    }
}
CONF
}
get() { curl -s -m 5 -i http://127.0.0.1:8080/page; }
serves() { get | grep -q hello; }
verdict() { get | grep -qi '^x-verdict: [a-z]'; }
worker() { local master; master=$(cat /run/nginx.pid) && awk '{ print $NF }' "/proc/$master/task/$master/children"; }
maps() { grep -q ngx_http_px_module.so "/proc/$(worker)/maps"; }
stale() { grep -q 'ngx_http_px_module.so (deleted)' "/proc/$(worker)/maps"; }
fresh() { maps && ! stale; }
until_true() { for _ in $(seq 200); do "$@" 2>/dev/null && return; sleep 0.05; done; return 1; }
reloads() { grep -c 'SIGHUP.*reconfiguring' /tmp/error.log || true; }
reloaded() { [ "$(reloads)" -gt "$before" ]; }
files() { find /etc /usr /var/lib/dpkg/info /var/lib/nginx -xdev \( -name '*px*' -o -path '*/nginx/*' \) ! -path '/usr/share/nginx/src/*' | sort; }

# A machine with nginx and nothing of ours. Its other modules are no matter of this test.
dpkg --purge libnginx-mod-http-px >/dev/null 2>&1 || true
rm -f /etc/nginx/modules-enabled/* /usr/sbin/policy-rc.d
mkdir -p /tmp/www /var/log/nginx
chmod 1777 /tmp
echo hello >/tmp/www/page
conf plain
files >/tmp/files-before
/usr/sbin/nginx     # by its path, as the service does: that is what it executes for an upgrade
check "nginx runs without the module" until_true serves

echo "install"
before=$(reloads)
dpkg_says -i "$(deb 1)"
check "dpkg installs it" test $rc = 0
check "the module is switched on by a link" linked
check "nginx -t accepts it" valid
check "nginx has been told to reload" until_true reloaded
check "the worker has loaded the module" until_true maps
check "the documentation has samples, licences and SBOM" \
  ls /usr/share/doc/libnginx-mod-http-px/{examples/px.conf,THIRD-PARTY.gz,ngx-http-px-module.cdx.json,copyright}
conf px
check "its directives are known" valid
before=$(reloads)
nginx -s reload 2>/dev/null
until_true reloaded || true
check "a request is looked at, and passes" until_true verdict
check "it says so in the log" grep -q 'NGINX Rust Module v.* built for' /tmp/error.log

echo "upgrade"
before=$(reloads)
dpkg_says -i "$(deb 2)"
check "dpkg upgrades it while nginx runs" is_installed 2
check "the link is kept" linked
check "nginx has been told to reload" until_true reloaded
check "requests are looked at" verdict
check "the former module is not left behind" not ls $module.previous
check "the worker still has the former module" stale
check "which the package says" said "service nginx upgrade"
rc=0; service nginx upgrade >/tmp/said 2>&1 || rc=$?
check "service nginx upgrade is done" test $rc = 0
check "service nginx upgrade takes the new one up" until_true fresh
check "requests are looked at then" until_true verdict

echo "a package for another nginx"
before=$(reloads)
dpkg_says -i "$(deb 5)"
check "dpkg refuses it" test $rc != 0
check "and says what it is for" said "is for nginx 1.22.0-1"
check "the module that fits is still installed" is_installed 2
check "and nginx accepts it" valid
apt=0
apt-get install -q -y --no-download "$(deb 5)" >/tmp/said 2>&1 || apt=$?
check "apt refuses it, too" test $apt != 0
check "and names the dependency" said "nginx (= 1.22.0-1)"
check "nothing has changed for the visitor" eval 'is_installed 2 && verdict && ! reloaded'

echo "an upgrade that nginx does not accept"
before=$(reloads)
dpkg_says -i "$(deb 3)"
check "dpkg reports that it failed" test $rc != 0
check "with what nginx says" said "is not binary compatible"
check "nginx can start with what is on the disk" valid
check "nginx has not been told to reload" eval 'verdict && ! reloaded'
dpkg_says --configure -a
check "another try fails the same" test $rc != 0
check "and nginx can still start" valid
service nginx restart >/tmp/said 2>&1 || true
check "it does, with the previous module" until_true verdict
dpkg_says -i "$(deb 4)"
check "the next upgrade, which fits, succeeds" is_installed 4
check "and nginx accepts it" valid
check "nothing is left of the others" not eval 'ls $module.*'

echo "a configuration that is wrong by itself"
before=$(reloads)
sed -i 's/^events/nonsense on;&/' /etc/nginx/nginx.conf
dpkg_says -i "$(deb 4)"
check "dpkg installs the package" test $rc = 0
check "and says that nginx -t fails" said "nginx -t fails"
check "the link is kept" linked
check "nginx has not been told to reload" eval 'verdict && ! reloaded'
conf px

echo "an operator who switched it off"
conf plain
rm $link
dpkg_says -i "$(deb 4)"
check "an upgrade leaves it off" unlinked
dpkg_says --remove libnginx-mod-http-px
dpkg_says -i "$(deb 4)"
check "so do removal and installation" eval 'is_installed 4 && unlinked'

echo "remove and purge"
ln -s /usr/share/nginx/modules-available/mod-http-px.conf $link
conf px
nginx -s reload 2>/dev/null
until_true verdict || true
before=$(reloads)
dpkg_says --remove libnginx-mod-http-px
check "dpkg removes it" eval 'test $rc = 0 && not is_installed 4'
check "the link is gone" unlinked
check "it says that the configuration needs the module" said 'unknown directive "px_enabled"'
check "nginx has not been told to reload" eval 'verdict && ! reloaded'
conf plain
check "nginx can start once the directives are gone" valid
dpkg_says -i "$(deb 4)"
check "installed again, it is on again" linked
before=$(reloads)
dpkg_says --remove libnginx-mod-http-px
check "removed where nothing needs it, nginx has been told to reload" until_true reloaded
check "and has let go of the module" until_true not maps
dpkg_says --purge libnginx-mod-http-px
files >/tmp/files-after
check "purge leaves nothing behind" diff /tmp/files-before /tmp/files-after
check "visitors are served" serves

if [ -x /tmp/patched ]; then
  echo "an nginx with other structures, of the same version"
  dpkg-divert --quiet --local --rename --add /usr/sbin/nginx
  printf '#!/bin/sh\nexec /tmp/patched -p /usr/share/nginx/ -c /etc/nginx/nginx.conf "$@"\n' >/usr/sbin/nginx
  chmod +x /usr/sbin/nginx
  dpkg_says -i "$(deb 4)"
  check "dpkg installs the package" test $rc = 0
  check "and shows what the module says" said "different nginx layout"
  check "the module is off" unlinked
  check "nginx can start" valid
  rm /usr/sbin/nginx
  dpkg-divert --quiet --local --rename --remove /usr/sbin/nginx
  rc=0
  dpkg-reconfigure libnginx-mod-http-px >/tmp/said 2>&1 || rc=$?
  check "with the right nginx, dpkg-reconfigure switches it on" linked
  check "and nginx accepts it" valid
fi

echo "$passed passed, $failed failed"
exit $((failed != 0))
