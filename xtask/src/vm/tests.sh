# In a guest whose files are the host's: mounts what a machine has, runs the tests on the second
# serial line, says how they ended, and switches the machine off.
B=/.holmes-guest/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
$B mkdir -p /dev/pts /dev/shm
$B mount -t devpts devpts /dev/pts
$B mount -t tmpfs shm /dev/shm
$B mount -t cgroup2 cgroup2 /sys/fs/cgroup
$B mount -t tracefs tracefs /sys/kernel/tracing
$B mount -t debugfs debugfs /sys/kernel/debug
$B mount -t bpf bpf /sys/fs/bpf
echo "+cpu +memory +pids +io" >/sys/fs/cgroup/cgroup.subtree_control
$B ifconfig lo 127.0.0.1 up
$B stty -F /dev/ttyS1 raw -echo
exec >/dev/ttyS1 2>&1 </dev/null
read -r uptime rest </proc/uptime
echo "holmes-guest: up $uptime $($B uname -r)"
# Sets what the tests find in their environment, and defines `run_tests`.
. /.holmes-guest/job.sh
run_tests
code=$?
if [ -e "$HOLMES_NOT_RUN" ]; then
    while read -r line; do echo "holmes-guest: not-run $line"; done <"$HOLMES_NOT_RUN"
fi
echo "holmes-guest: exit $code"
# What is on the line must be through before the power goes.
$B sleep 1
echo o >/proc/sysrq-trigger
$B sleep 60
