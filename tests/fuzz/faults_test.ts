/** Each call of the C library fails once while a driver comes up and works: what was made before it is undone, and the error is a typed one. */
import { assert, assertEquals } from "@std/assert";
import { VirtioBlk } from "../../drivers/blk/virtio_blk.ts";
import { VirtioConsole } from "../../drivers/console/virtio_console.ts";
import { VirtioIsm } from "../../drivers/ism/virtio_ism.ts";
import { VirtioNet } from "../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../drivers/rng/virtio_rng.ts";
import { libc } from "../../ffi/libc.ts";
import { errnoNumber, mappingCount, openFdCount, removeFile } from "../../ffi/mod.ts";
import { RingsideError } from "../../lib/errors/mod.ts";
import { EmulatedHost } from "../../lib/host/emulated_host.ts";
import type { VirtioTransport } from "../../lib/virtio/mod.ts";
import { PciModernTransport } from "../../lib/virtio/transport/pci_modern.ts";
import { TopologyHost } from "../emulated/drivers/topology_host.ts";

const ADDRESS = "0000:01:00.0";
const IMAGE = `/tmp/ringside-faults-${Deno.pid}.img`;
/** What undoes, waits, or cannot fail. */
const SPARED = ["close", "munmap", "epoll_wait", "epoll_wait_async", "poll", "getpid", "geteuid", "sysconf"];
const ENDED = ["sendmsg", "recvmsg"];
/** What is let go of late is waited for: a minute. */
const [LOOKS, LOOK_MS] = [12_000, 5];

const DRIVERS: Readonly<Record<string, (transport: VirtioTransport) => Promise<unknown>>> = {
  "virtio-net": async (transport) => {
    await using net = await VirtioNet.open(transport);
    return net.send(new Uint8Array(60));
  },
  "virtio-blk": async (transport) => {
    await using blk = await VirtioBlk.open(transport);
    return await blk.read(0, 1);
  },
  "virtio-console": async (transport) => {
    await using console = await VirtioConsole.open(transport);
    return await console.waitPort(0, 5000);
  },
  "virtio-ism": async (transport) => {
    await using ism = await VirtioIsm.open(transport);
    return await ism.alloc(4096);
  },
  "virtio-rng": async (transport) => {
    await using rng = VirtioRng.open(transport);
    return await rng.read(16);
  },
};

for (const [kind, drive] of Object.entries(DRIVERS)) {
  Deno.test(`${kind}: each call of the C library fails once, and nothing is left behind`, async () => {
    const file = kind === "virtio-blk" ? { file: IMAGE, sizeBytes: 65536 } : {};
    await using served = await TopologyHost.start([{ address: ADDRESS, kind, ...file }]);
    using _image = { [Symbol.dispose]: () => kind === "virtio-blk" && removeFile(IMAGE) };
    served.host.bind(ADDRESS);
    const calls = libc as unknown as Record<string, (...values: unknown[]) => unknown>;
    const whole = { ...calls };
    let failing = 0, made = 0, failed = "";
    for (const name of Object.keys(whole).filter((one) => !SPARED.includes(one))) {
      calls[name] = (...values) => {
        if (++made !== failing) return whole[name]!(...values);
        failed = name;
        return -(ENDED.includes(name) ? errnoNumber.EPIPE! : errnoNumber.ENOMEM!);
      };
    }
    try {
      // The first run is left alone: what a process makes once and keeps is there after it.
      let kept = Infinity;
      do {
        [made, failed] = [0, ""];
        try {
          using host = EmulatedHost.connect(served.directory);
          using device = host.open(ADDRESS);
          using transport = PciModernTransport.open(device);
          await drive(transport);
        } catch (error) {
          assert(failed !== "" && error instanceof RingsideError, `${failed}, call ${failing}: ${error}`);
        }
        kept = Math.min(kept, openFdCount());
        // Who waited on another thread closes when it is out.
        for (let i = 0; i < LOOKS && (openFdCount() > kept || mappingCount().mappings > 0); i++) {
          await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
        }
        kept = Math.min(kept, openFdCount());
        assertEquals([openFdCount(), mappingCount().mappings], [kept, 0], `${failed}, call ${failing}`);
      } while (failing++ === 0 || failed !== "");
    } finally {
      Object.assign(calls, whole);
    }
    assert(failing > 100);
  });
}
