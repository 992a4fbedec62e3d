#!/bin/sh
# Become an Arm64 phone with Debian's adbd, mksh and toybox, in name spaces for mounts and processes that end with it. The
# kernel must know who runs Arm64 programs.
#   arm64_phone.sh ROOT USR PROCESSOR: an empty folder, /usr of the phone's packages, and what qemu is to be
set -eu
root=$1 usr=$2 processor=$3
mount --make-rprivate /
mount -t tmpfs phone "$root"
cd "$root"
mkdir -p dev/pts proc sys system/bin data/local/tmp tmp usr
ln -s system/bin bin
ln -s usr/lib lib
mount --bind -o ro "$usr" usr
mount -t proc proc proc
mount --bind -o ro /sys sys
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/urandom c 1 9
for name in $(chroot . /usr/bin/toybox); do ln -s /usr/bin/toybox "system/bin/$name"; done
ln -sf /usr/bin/mksh system/bin/sh
exec chroot . /usr/bin/toybox env -i PATH=/system/bin HOME=/data/local/tmp SHELL=/system/bin/sh QEMU_CPU="$processor" /usr/sbin/adbd
