#!/bin/busybox sh
# The first program of a guest: makes the host's files, read-only, and a layer in memory above them
# its root. Must not: run anything of the host.
B=/bin/busybox
$B mkdir -p /proc /sys /dev /lower /layer /root
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
for module in /modules/*.ko; do
    if [ -e "$module" ]; then
        $B insmod "$module" || echo "holmes: cannot insert $module"
    fi
done
$B mount -t virtiofs -o ro hostroot /lower || echo "holmes: cannot mount the host's files"
$B mount -t tmpfs -o size=60% layer /layer
$B mkdir /layer/upper /layer/work
$B mount -t overlay -o lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work root /root ||
    echo "holmes: cannot lay a writable layer above the host's files"
$B mkdir -p /root/.holmes-guest
$B cp /bin/busybox /tests.sh /job.sh /root/.holmes-guest/
$B umount /dev /sys /proc
exec $B switch_root /root /.holmes-guest/busybox sh /.holmes-guest/tests.sh
