/**
 * What the guest of `linux_drivers_test.ts` does with its functions: a shell script. Each check that holds is a line `ok …`, each that does not a line
 * `!! …`; a line `>> ADDRESS NAME VALUE` asks the host's side to set that control of the embedded host.
 */

/** How much of it. */
export interface ScriptSize {
  /** Changes of a link from the host's side. */
  readonly toggles: number;
  /** Times that an interface is taken down and up. */
  readonly upDowns: number;
  /** Times that a port is pulled out and plugged in. */
  readonly plugs: number;
  /** A kernel whose virtio drivers outlive a reset of their function. */
  readonly resetUnderIo: boolean;
  /** A kernel with VLANs. */
  readonly vlan: boolean;
  /** A kernel that can be suspended to memory. */
  readonly suspend: boolean;
  /** Processors of the machine. */
  readonly cpus: number;
}

/** Where the functions are on the embedded host, for the controls. */
export interface ScriptFunctions {
  readonly net: string;
  readonly disk: string;
  readonly console: string;
}

/** Bytes through the console's port, each way. */
export const PORT_BYTES = 1 << 20;

const TOOLS = `
export MKE2FS_CONFIG=/tools/lib/mke2fs.conf
ok() { echo "ok $*"; }
no() { echo "!! $*"; }
check() { what=$1; shift; if "$@" > /tmp/said 2>&1; then ok "$what"; else no "$what: $(tail -3 /tmp/said)"; fi; }
refuse() { what=$1; shift; if "$@" > /tmp/said 2>&1; then no "$what: it was taken"; else ok "$what"; fi; }
same() { if [ "$2" = "$3" ]; then ok "$1"; else no "$1: $2 is not $3"; fi; }
want() { echo ">> $*"; }
# Until a file reads so, or is there, or is not.
reads() { for i in $(seq 600); do [ "$(cat $1 2>/dev/null)" = "$2" ] && return 0; usleep 20000; done; return 1; }
there() { for i in $(seq 600); do [ -e $1 ] && return 0; usleep 20000; done; return 1; }
gone() { for i in $(seq 600); do [ -e $1 ] || return 0; usleep 20000; done; return 1; }
hash() { sha256sum "$@" | cut -d' ' -f1; }
mkdir -p /mnt
`;

const DISKS = (cpus: number) => `
# A file system: $1 the disk, $2 where it goes.
filesystem() {
  disk=$1 at=$2
  check "$disk: mkfs.ext4 of zeroed inode tables" /tools/mke2fs -t ext4 -q -F -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 $at
  check "$disk: mount" mount -t ext4 $at /mnt
  dd if=/dev/urandom of=/mnt/bytes bs=64k count=96 conv=fsync 2>/dev/null; before=$(hash /mnt/bytes)
  cp /mnt/bytes /mnt/copy
  check "$disk: umount" umount /mnt
  check "$disk: fsck" /tools/e2fsck -fn $at
  echo 3 > /proc/sys/vm/drop_caches
  check "$disk: mount again" mount -t ext4 $at /mnt
  same "$disk: hash after remount" $(hash /mnt/bytes) $before
  rm /mnt/copy; sync
  check "$disk: fstrim" fstrim /mnt
  same "$disk: hash after fstrim" $(hash /mnt/bytes) $before
  check "$disk: umount after fstrim" umount /mnt
  check "$disk: fsck after fstrim" /tools/e2fsck -fn $at
}
q() { cat /sys/block/$1/queue/$2; }
same "vda: request queues" $(ls /sys/block/vda/mq | wc -l) ${cpus}
same "vda: block size" $(q vda logical_block_size) 512
same "vdb: block size" $(q vdb logical_block_size) 4096
for d in vda vdb; do
  [ $(q $d discard_max_bytes) -gt 0 ] && [ $(q $d write_zeroes_max_bytes) -gt 0 ] && ok "$d: discard and write zeroes" || no "$d: limits"
done
printf 'n\\np\\n1\\n\\n\\nw\\n' | fdisk /dev/vda > /dev/null 2>&1
check "vda: partition" there /dev/vda1
filesystem vda /dev/vda1
filesystem vdb /dev/vdb
check "vdb: discard of all" blkdiscard /dev/vdb
same "vdc: read-only" $(blockdev --getro /dev/vdc) 1
refuse "vdc: no write" dd if=/dev/zero of=/dev/vdc bs=512 count=1 conv=notrunc,fsync
same "vdc: hash" $(hash /dev/vdc) $READ_ONLY_HASH
# Under I/O: who reads gets an error when the driver goes.
part=$(hash /dev/vda1)
reader() { while dd if=/dev/vda of=/dev/null bs=64k iflag=direct 2>/dev/null; do :; done; }
virtio=$(basename $(readlink /sys/block/vda/device))
for round in 1 2 3; do
  reader & pid=$!
  usleep 200000
  echo $virtio > /sys/bus/virtio/drivers/virtio_blk/unbind
  wait $pid
  check "vda: unbound under I/O" gone /sys/block/vda
  echo $virtio > /sys/bus/virtio/drivers/virtio_blk/bind
  check "vda: bound again" there /dev/vda1
done
echo 3 > /proc/sys/vm/drop_caches
same "vda: hash after rebinding" $(hash /dev/vda1) $part
`;

const RESET = `
function=$(dirname $(dirname $(readlink -f /sys/block/vda/device)))
[ -e $function/reset ] || function=$(dirname $(readlink -f /sys/block/vda/device))
reader & pid=$!
usleep 200000
for round in 1 2 3; do check "vda: Function Level Reset under I/O" sh -c "echo 1 > $function/reset"; usleep 100000; done
kill $pid; wait $pid 2>/dev/null
echo 3 > /proc/sys/vm/drop_caches
same "vda: hash after resets" $(hash /dev/vda1) $part
`;

const GROWTH = (disk: string) => `
want ${disk} capacity 50331648
check "vdb: grows at run time" reads /sys/block/vdb/size 98304
`;

const NET = ({ net }: ScriptFunctions, { toggles, upDowns, vlan }: ScriptSize) => `
port=5000
# The other function lives in a network namespace of its own.
unshare -n sleep 100000 & ns=$!
usleep 200000
ip link set eth1 netns $ns
there_() { nsenter -t $ns -n "$@"; }
there_ ip link set lo up
there_ ip link set eth1 up
there_ ip addr add 192.0.2.2/24 dev eth1
ip link set eth0 up
ip addr add 192.0.2.1/24 dev eth0
check "net: ethtool -i" sh -c 'ethtool -i eth0 | grep -q "^driver: virtio_net"'
check "net: ethtool sees the link" sh -c 'ethtool eth0 | grep -q "Link detected: yes"'
check "net: one queue pair" ethtool -L eth0 combined 1
check "net: two queue pairs" ethtool -L eth0 combined 2
refuse "net: no third queue pair" ethtool -L eth0 combined 3
check "net: ping" ping -c 3 -W 5 192.0.2.2
check "net: ping of 8000 bytes" ping -c 3 -W 5 -s 8000 192.0.2.2
dd if=/dev/urandom of=/tmp/sent bs=64k count=16 2>/dev/null; sent=$(hash /tmp/sent)
printf '#!/bin/sh\\ncat > /tmp/got\\n' > /tmp/take; chmod +x /tmp/take
# TCP both ways between the namespaces: $1 what, $2 our address, $3 the other's.
transfer() {
  port=$((port + 1)); rm -f /tmp/got
  there_ nc -l -p $port -e /tmp/take & listener=$!
  for i in $(seq 100); do nc $3 $port < /tmp/sent > /dev/null 2>&1 && break; usleep 50000; done
  wait $listener
  same "net: TCP out, $1" "$(hash /tmp/got)" $sent
  port=$((port + 1)); rm -f /tmp/got
  nc -l -p $port -e /tmp/take & listener=$!
  for i in $(seq 100); do there_ nc $2 $port < /tmp/sent > /dev/null 2>&1 && break; usleep 50000; done
  wait $listener
  same "net: TCP in, $1" "$(hash /tmp/got)" $sent
}
transfer "MTU 9000" 192.0.2.1 192.0.2.2
refuse "net: no MTU above the device's" ip link set eth0 mtu 9001
ip link set eth0 mtu 1280; there_ ip link set eth1 mtu 1280
transfer "MTU 1280" 192.0.2.1 192.0.2.2
for i in $(seq ${upDowns}); do ip link set eth0 down; ip link set eth0 up; done
check "net: ping after ${upDowns} times down and up" ping -c 3 -W 5 192.0.2.2
bad=0
for i in $(seq ${toggles / 2}); do
  want ${net} link down; reads /sys/class/net/eth0/carrier 0 || bad=1
  want ${net} link up; reads /sys/class/net/eth0/carrier 1 || bad=1
done
same "net: ${toggles} changes of the link from outside" $bad 0
check "net: ping after them" ping -c 3 -W 5 192.0.2.2
ip addr del 192.0.2.1/24 dev eth0
ip link add br0 type bridge
ip link set eth0 master br0
ip addr add 192.0.2.1/24 dev br0
ip link set br0 up
transfer "over a bridge" 192.0.2.1 192.0.2.2
${
  vlan
    ? `
ip link add link br0 name br0.5 type vlan id 5
there_ ip link add link eth1 name eth1.5 type vlan id 5
ip addr add 198.51.100.1/24 dev br0.5; there_ ip addr add 198.51.100.2/24 dev eth1.5
ip link set br0.5 up; there_ ip link set eth1.5 up
transfer "over a VLAN" 198.51.100.1 198.51.100.2
`
    : ""
}
errors=$(cat /sys/class/net/eth0/statistics/rx_errors /sys/class/net/eth0/statistics/tx_errors | tr '\\n' ' ')
same "net: errors" "$errors" "0 0 "
`;

const CONSOLE = ({ console }: ScriptFunctions, { plugs }: ScriptSize) => `
named() { for p in /sys/class/virtio-ports/*; do [ "$(cat $p/name 2>/dev/null)" = $1 ] && basename $p; done; }
for i in $(seq 200); do [ -n "$(named data)" ] && [ -n "$(named spare)" ] && break; usleep 50000; done
data=/dev/$(named data) spare=/dev/$(named spare)
check "console: ports by name" [ -c $data -a -c $spare ]
head -c ${PORT_BYTES} $data > /tmp/in
echo "port $(hash /tmp/in)"
cat /tmp/in > $data
ok "console: ${PORT_BYTES} bytes in and out"
bad=0
for i in $(seq ${plugs}); do
  want ${console} ports remove 2; gone $spare || bad=1
  want ${console} ports add 2
  for j in $(seq 400); do [ -n "$(named spare)" ] && break; usleep 20000; done
  spare=/dev/$(named spare); there $spare || bad=1
done
same "console: ${plugs} times a port pulled out and plugged in" $bad 0
`;

const REST = `
check "rng: current" sh -c 'grep -q virtio_rng /sys/class/misc/hw_random/rng_current'
check "rng: 16 KiB" dd if=/dev/hwrng of=/tmp/random bs=1024 count=16
echo "plug in"
plugged() { for i in $(seq 600); do grep -q virtio_rng.1 /sys/class/misc/hw_random/rng_available && return 0; usleep 20000; done; return 1; }
check "hot-plug: a second source of random numbers" plugged
[ $(wc -c < /tmp/random) -ge 8192 ] && ok "rng: bytes" || no "rng: bytes"
`;

/** Suspend to memory: functions lose all, and come back reset. The host's side wakes the machine once it sleeps. */
const SUSPEND = `
before=$(hash /dev/vdc)
echo "going to sleep"
check "suspend: to memory and back" sh -c "echo mem > /sys/power/state"
echo 3 > /proc/sys/vm/drop_caches
same "suspend: disk afterwards" $(hash /dev/vdc) $before
check "suspend: ping afterwards" ping -c 3 -W 10 192.0.2.2
check "suspend: random numbers afterwards" dd if=/dev/hwrng of=/dev/null bs=64 count=4
echo "port again"
same "suspend: console afterwards" "$(timeout 60 head -c 6 $data)" hello!
transfer "after suspend" 192.0.2.1 192.0.2.2
`;

/** The script. @param readOnlyHash of the disk that cannot be written */
export function linuxScript(functions: ScriptFunctions, size: ScriptSize, readOnlyHash: string): string {
  return [
    TOOLS,
    `READ_ONLY_HASH=${readOnlyHash}`,
    DISKS(size.cpus),
    ...(size.resetUnderIo ? [RESET] : []),
    GROWTH(functions.disk),
    NET(functions, size),
    CONSOLE(functions, size),
    REST,
    ...(size.suspend ? [SUSPEND] : []),
    "kill $ns",
    "dmesg | sed 's/^/kernel: /'",
    'echo "the end"',
  ].join("\n");
}
