/**
 * Examples that help of each command ends with. Each is a command line that is understood as it stands.
 *
 * @module
 */
const TOKEN = "0x8000000000000001";

/** By the words of the command. */
export const EXAMPLES: Readonly<Record<string, readonly string[]>> = {
  "": [
    "ringside list",
    "ringside bind eth3",
    "ringside sriov 01:00.0 4",
    "ringside net loop 01:00.1 01:00.2 --count 10000",
    "ringside restore",
  ],
  list: [
    "ringside list",
    "ringside list --sriov --wide",
    "ringside list --class net --columns FUNCTION,DRIVER,GROUP",
  ],
  show: [
    "ringside show 01:00.0",
    "ringside show -d 1af4: --hex",
    "lspci -xxxx | ringside show --dump -",
  ],
  bind: [
    "ringside bind 01:00.0",
    "ringside bind eth3 eth4 --dry-run",
    "ringside bind -d 8086:10c9 --from igb",
    "ringside bind 01:00.0 --driver igb",
  ],
  trace: ["ringside trace show net.jsonl"],
  "trace show": [
    "ringside trace show net.jsonl",
    "ringside trace show net.jsonl --only common:",
    "ringside trace show net.jsonl --svg net.svg",
  ],
  "trace diff": ["ringside trace diff good.jsonl bad.jsonl"],
  "trace replay": ["ringside trace replay net.jsonl /tmp/replayed.sock"],
  restore: [
    "ringside restore",
    "ringside restore 01:00.0 --dry-run",
    "ringside restore 01:00.0 --forget",
  ],
  sriov: [
    "ringside sriov 01:00.0 4",
    "ringside sriov eth3 eth4 8 --dry-run",
    "ringside sriov 01:00.0 2 --vf-token 3b8a2ad4-52b4-4d9f-9a3b-8b5e1f0f7c11",
  ],
  status: ["ringside status", "ringside status 01:00.0 --json"],
  top: ["ringside top", "ringside --host /tmp/host top --once --json"],
  control: [
    "ringside --host /tmp/host control 01:00.0",
    "ringside --host /tmp/host control 01:00.0 link down",
    "ringside --host /tmp/host control 02:00.0 present no",
    "ringside --host /tmp/host control 05:00.0 plug virtio-rng",
  ],
  doctor: ["ringside doctor", "ringside doctor --json"],
  emulate: [
    "ringside emulate /tmp/host --background",
    "ringside emulate /tmp/host --stop",
    "ringside emulate /tmp/host --topology host.json --verbose",
    "ringside emulate /tmp/host --vhost-user /tmp/disk.sock,blk,sizeBytes=2097152",
  ],
  demo: ["ringside demo", "ringside demo --vfs 8 --frames 1000000"],
  man: ["ringside man | man -l -", "ringside man > ringside.1"],
  peek: [
    "ringside peek 01:00.0 0:0x14.8",
    "ringside peek 01:00.0 COMMAND CAP_EXP+8.w common:num_queues",
  ],
  repl: [
    "ringside repl 02:00.0",
    "ringside repl 01:00.0 --bind",
    "ringside repl 04:00.0 --table edu.txt",
  ],
  poke: [
    "ringside poke 01:00.0 common:queue_select 1 --peek common:queue_size",
    "ringside poke 01:00.0 command busMaster=1 --dry-run",
  ],
  regs: [
    "ringside regs 01:00.0",
    "ringside regs 01:00.0 common:*",
    "ringside regs 01:00.0 --table igb.regs --bar 0 --diff before.json",
  ],
  admin: ["ringside admin 01:00.0 list", "ringside admin 01:00.0 legacy dump --vf 0"],
  "admin list": ["ringside admin 01:00.0 list --group sriov"],
  "admin legacy": ["ringside admin 01:00.0 legacy dump --vf 0"],
  "admin legacy dump": ["ringside admin 01:00.0 legacy dump --vf 0"],
  "admin legacy read": ["ringside admin 01:00.0 legacy read 18 1 --vf 0"],
  "admin legacy write": ["ringside admin 01:00.0 legacy write 18 1 0x01 --vf 0 --dry-run"],
  "admin notify-info": ["ringside admin 01:00.0 notify-info --vf 0"],
  "admin caps": ["ringside admin 01:00.0 caps"],
  "admin parts": ["ringside admin 01:00.0 parts show --vf 0"],
  "admin parts show": ["ringside admin 01:00.0 parts show --vf 0"],
  "admin parts save": ["ringside admin 01:00.0 parts save vf0.json --vf 0"],
  "admin parts load": ["ringside admin 01:00.0 parts load vf0.json --vf 1 --keep-stopped"],
  "admin mode": ["ringside admin 01:00.0 mode stop --vf 0 --hold"],
  "admin mode stop": ["ringside admin 01:00.0 mode stop --vf 0 --hold"],
  "admin mode resume": ["ringside admin 01:00.0 mode resume --vf 0"],
  tvq: ["ringside tvq 03:00.0 resources", "ringside tvq 03:00.0 show net:mtu=9000 --drive"],
  "tvq resources": ["ringside tvq 03:00.0 resources"],
  "tvq create": ["ringside tvq 03:00.0 create net:mtu=9000 blk:sectors=4096 --hold"],
  "tvq destroy": ["ringside tvq 03:00.0 destroy net blk"],
  "tvq list": ["ringside tvq 03:00.0 list", "ringside tvq 03:00.0 list net rng --drive"],
  "tvq show": ["ringside tvq 03:00.0 show net:mtu=9000 --drive"],
  "tvq features": ["ringside tvq 03:00.0 features net"],
  "tvq config": ["ringside tvq 03:00.0 config blk:sectors=4096"],
  "tvq queues": ["ringside tvq 03:00.0 queues net:pairs=2 --drive"],
  "tvq notify-area": ["ringside tvq 03:00.0 notify-area net"],
  ism: ["ringside ism 01:00.0 info", "ringside ism 01:00.0 alloc 1M --grant read,attach"],
  "ism info": ["ringside ism 01:00.0 info"],
  "ism alloc": [
    "ringside ism 01:00.0 alloc 1M --grant read,attach",
    "ringside ism 01:00.0 alloc 64K --shell",
  ],
  "ism query": [`ringside ism 02:00.0 query ${TOKEN}`],
  "ism attach": [`ringside ism 02:00.0 attach ${TOKEN} --read --dump 64`],
  "ism detach": [`ringside ism 02:00.0 detach ${TOKEN}`],
  "ism grant": [`ringside ism 02:00.0 grant ${TOKEN} --permissions read,attach --devid 3`],
  "ism watch": [`ringside ism 02:00.0 watch ${TOKEN} --count 10`],
  "ism pipe": [
    "ringside ism 01:00.0 pipe --listen --token-file token > copy",
    `ringside ism 02:00.0 pipe ${TOKEN} < original`,
  ],
  "ism figure": ["ringside ism 01:00.0 figure --output domain.svg"],
  mmio: ["ringside mmio a003e00.virtio_mmio show"],
  "mmio show": ["ringside mmio a003e00.virtio_mmio show"],
  queue: ["ringside queue 01:00.1", "ringside queue 01:00.1 --chains"],
  "queue save": ["ringside queue save 01:00.1 queues.json"],
  "queue load": ["ringside queue load 01:00.1 queues.json"],
  net: ["ringside net loop 01:00.1 01:00.2", "ringside net receive 01:00.1 frames.pcap"],
  "net send": [
    "ringside net send 01:00.1 frames.pcap",
    "ringside net send 01:00.1 frames.pcap --repeat 10 --rate 1000",
  ],
  "net receive": [
    "ringside net receive 01:00.1 frames.pcapng --count 100",
    "ringside net receive 01:00.1 - --promiscuous | tcpdump -n -r -",
  ],
  "net loop": [
    "ringside net loop 01:00.1 01:00.2 --count 10000",
    "ringside net loop 01:00.1 01:00.2 --interrupts none --frame-bytes 1514",
  ],
  blk: ["ringside blk info 02:00.0", "ringside blk read 02:00.0 0 8"],
  "blk info": ["ringside blk info 02:00.0"],
  "blk id": ["ringside blk id 02:00.0"],
  "blk read": ["ringside blk read 02:00.0 0 8", "ringside blk read 02:00.0 0 2048 --output first.img"],
  "blk write": ["ringside blk write 02:00.0 0 first.img", "ringside blk write 02:00.0 0 first.img --dry-run"],
  "blk flush": ["ringside blk flush 02:00.0"],
  "blk discard": ["ringside blk discard 02:00.0 2048 1024"],
  "blk zero": ["ringside blk zero 02:00.0 0 2048 --unmap"],
  bench: ["ringside bench net", "ringside bench blk --depth 1,32"],
  "bench net": ["ringside bench net", "ringside bench net 01:00.1 01:00.2 --size 1514 --svg frames.svg"],
  "bench blk": ["ringside bench blk", "ringside bench blk 02:00.0 --depth 1,32 --size 64K"],
  console: ["ringside console 02:00.0", "ringside console 02:00.0 --list"],
  rng: ["ringside rng 02:00.0", "ringside rng 02:00.0 1048576 --output random.bin"],
};

/** Of a command, by its words. */
export function examplesOf(command: readonly string[]): readonly string[] {
  return EXAMPLES[command.join(" ")] ?? [];
}
