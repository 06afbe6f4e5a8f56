/**
 * Options of a caller's that cannot be read, each at each time that it is read: nothing is left open, mapped or turned on, and the next call works.
 *
 * @module
 */
import { assertEquals, assertStrictEquals } from "@std/assert";
import { VirtioAdmin } from "../../../drivers/admin/virtio_admin.ts";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioConsole } from "../../../drivers/console/virtio_console.ts";
import { IsmChannel } from "../../../drivers/ism/ism_channel.ts";
import { VirtioIsm } from "../../../drivers/ism/virtio_ism.ts";
import {
  FunctionMsi,
  TVQ_PADDED_HEADER,
  VirtioManagement,
} from "../../../drivers/management/virtio_management.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { EmulatedHost } from "../../../lib/host/emulated_host.ts";
import { VfioUserDevice } from "../../../lib/sockets/vfio_user/mod.ts";
import type { VfioDevice } from "../../../lib/vfio/mod.ts";
import { FEATURE, openTransport, type TransportOptions, VirtioDevice } from "../../../lib/virtio/mod.ts";
import { Waiter } from "../../../lib/wait/mod.ts";
import { holdings } from "../../holdings.ts";
import { TopologyHost } from "../drivers/topology_host.ts";

const [NET, RNG, BLK, CONSOLE, ISM, MANAGEMENT] = [1, 2, 3, 4, 5, 6].map((bus) => `0000:0${bus}:00.0`) as [
  string,
  string,
  string,
  string,
  string,
  string,
];

const serve = () =>
  TopologyHost.start([
    { address: NET, kind: "virtio-net", totalVfs: 4, adminQueues: 2 },
    { address: RNG, kind: "virtio-rng" },
    { address: BLK, kind: "virtio-blk", sizeBytes: 1 << 20 },
    { address: CONSOLE, kind: "virtio-console" },
    { address: ISM, kind: "virtio-ism" },
    { address: MANAGEMENT, kind: "virtio-management" },
  ]);

/** Options of which one reading throws, counted from 0 over all fields and those within them. */
class Unreadable<T extends object> {
  readonly error = new Error("unreadable");
  readonly options: T;
  readonly read: string[] = [];
  readonly #at: number;

  constructor(options: T, at: number) {
    this.#at = at;
    this.options = this.#wrapped(options, "");
  }

  #wrapped<O extends object>(one: O, path: string): O {
    return new Proxy(one, {
      get: (target, key) => {
        this.read.push(`${path}${String(key)}`);
        if (this.read.length - 1 === this.#at) throw this.error;
        const value = Reflect.get(target, key);
        const plain = typeof value === "object" && value !== null && key !== "header" &&
          Object.getPrototypeOf(value) === Object.prototype;
        return plain ? this.#wrapped(value, `${path}${String(key)}.`) : value;
      },
    });
  }
}

type Closable = Partial<Disposable & AsyncDisposable> | void;

async function close(one: Closable): Promise<void> {
  if (one?.[Symbol.asyncDispose]) await one[Symbol.asyncDispose]!();
  else one?.[Symbol.dispose]?.();
}

/** @param state of what is used, beyond what this process holds */
async function check<T extends object>(
  what: string,
  options: T,
  acquire: (options: T) => Closable | Promise<Closable>,
  state: () => unknown = () => 0,
): Promise<void> {
  const held = async () => {
    await new Promise((resolve) => setTimeout(resolve, 0));
    return [holdings("self", /eventfd|eventpoll|memfd|socket/), await state()];
  };
  const readable = new Unreadable(options, Infinity);
  await close(await acquire(readable.options));
  for (let at = 0; at < readable.read.length; at++) {
    const one = new Unreadable(options, at);
    const before = await held();
    let thrown: unknown;
    try {
      await close(await acquire(one.options));
    } catch (error) {
      thrown = error;
    }
    assertStrictEquals(thrown, one.error, `${what}: ${one.read[at]}`);
    assertEquals(await held(), before, `${what}: ${one.read[at]}`);
  }
  await close(await acquire(options));
}

const DRIVER = {
  interrupts: "msix",
  wait: "adaptive",
  spinMicroseconds: 10,
  resetTimeoutMs: 1000,
  refusedFeatures: 0n,
  packed: true,
  indirect: true,
} as const;
const ADMIN = {
  depth: 4,
  lists: "lazy",
  timeoutMs: 1000,
  retries: 1,
  backoffMs: 1,
  maxBackoffMs: 1,
  memberOrder: "serial",
  padReads: false,
  vfCount: () => 0,
} as const;

Deno.test("options that cannot be read leave nothing, and the next call works", async (t) => {
  await using served = await serve();
  const { host } = served;
  for (const address of [NET, RNG, BLK, CONSOLE, ISM, MANAGEMENT]) host.bind(address);
  const reach = (address: string, options: TransportOptions = {}) => {
    const stack = new DisposableStack();
    const device: VfioDevice = stack.use(host.open(address));
    const transport = stack.use(openTransport(device, options));
    const state = () => [device.dma.usage, transport.readStatus(), transport.interruptCount("msix")];
    return { device, transport, state, [Symbol.dispose]: () => stack.dispose() };
  };

  await t.step("functions and transports", async () => {
    await check("host.open", { timeoutMs: 1000, requireSealed: false }, (one) => host.open(RNG, one));
    const path = `${served.directory}/${RNG}.sock`;
    const socket = { name: "x", timeoutMs: 1000, requireSealed: false, onClosed: () => {} };
    await check("VfioUserDevice.connect", socket, (one) => VfioUserDevice.connect(path, one));
    await check(
      "EmulatedHost.connect",
      { onStep: () => {} },
      (one) => EmulatedHost.connect(served.directory, one),
    );
    await check("Waiter", { mode: "poll", spinMicroseconds: 5 } as const, (one) => new Waiter(one));
    using device = host.open(NET);
    const transport = { profile: "spec", trace: () => {}, assumeAccessPlatform: true } as const;
    await check("openTransport", transport, (one) => openTransport(device, one));
  });

  await t.step("drivers", async () => {
    const net = { ...DRIVER, queueSize: 16, bufferBytes: 2048, mergeable: true, queuePairs: 1 };
    {
      using on = reach(NET);
      const withAdmin = { ...net, controlTimeoutMs: 100, admin: ADMIN };
      await check("VirtioNet", withAdmin, (one) => VirtioNet.open(on.transport, one), on.state);
      const admin = { ...DRIVER, ...ADMIN, adminQueues: 2 };
      await check("VirtioAdmin", admin, (one) => VirtioAdmin.open(on.transport, one), on.state);
      const queue = { size: 16, maxSegments: 4, vector: null, addressBits: 40 };
      const create = (one: typeof queue) => {
        using device = new VirtioDevice(on.transport);
        device.negotiate();
        device.createQueue(0, one);
      };
      await check("createQueue", queue, create, on.state);
    }
    {
      using on = reach(RNG);
      const rng = { ...DRIVER, timeoutMs: 100, bufferBytes: 64 };
      await check("VirtioRng", rng, (one) => VirtioRng.open(on.transport, one), on.state);
    }
    {
      using on = reach(BLK);
      const blk = {
        ...DRIVER,
        queues: 1,
        queueSize: 16,
        depth: 2,
        timeoutMs: 100,
        segmentBytes: 4096,
        requestBytes: 8192,
      };
      await check("VirtioBlk", blk, (one) => VirtioBlk.open(on.transport, one), on.state);
    }
    {
      using on = reach(CONSOLE);
      const one = { ...DRIVER, queueSize: 16, bufferBytes: 64, maxPorts: 2, multiport: true };
      await check("VirtioConsole", one, (one) => VirtioConsole.open(on.transport, one), on.state);
    }
    {
      using on = reach(ISM);
      const ism = {
        ...DRIVER,
        eventBuffers: 4,
        eventBufferBytes: 64,
        regionVectors: 1,
        commandTimeoutMs: 1000,
      };
      await check("VirtioIsm", ism, (one) => VirtioIsm.open(on.transport, one), on.state);
      await using opened = await VirtioIsm.open(on.transport);
      const channel = { capacityBytes: 8192, peer: 2n, wait: "poll", spinMicroseconds: 1 } as const;
      const regions = () => opened.regions.length;
      await check("IsmChannel", channel, (one) => IsmChannel.create(opened, one), regions);
    }
  });

  await t.step("management devices", async () => {
    using on = reach(MANAGEMENT, { profile: "transport-vq" });
    const options = {
      ...DRIVER,
      function: on.device,
      featureBits: { vq: 44, mdev: 45 },
      deviceId: 63,
      queue: 0,
      depth: 4,
      timeoutMs: 1000,
      layout: "aligned",
      header: TVQ_PADDED_HEADER,
    } as const;
    await check("VirtioManagement", options, (one) => VirtioManagement.open(on.transport, one), on.state);
    await using management = await VirtioManagement.open(on.transport, { function: on.device });
    const left = async () => [
      await management.resources(),
      management.devices.length,
      new FunctionMsi(on.device, 2).available,
    ];
    const request = { type: 1, features: FEATURE.VERSION_1, config: new Uint8Array(28) };
    const created = async (one: typeof request) => {
      const { id } = await management.create(one);
      return { [Symbol.asyncDispose]: () => management.destroy(id) };
    };
    await check("create", request, created, left);
    const { id } = await management.create({ type: 1, features: FEATURE.VERSION_1 });
    const driven = { features: 1n << 32n, addressSpace: 1, trace: () => {} };
    await check("openTransport", driven, (one) => management.openTransport(id, one), left);
    using transport = management.openTransport(id);
    const net = { ...DRIVER, queueSize: 16, bufferBytes: 2048, queuePairs: 1 };
    await check("VirtioNet", net, (one) => VirtioNet.open(transport, one), left);
    const command = { class: 1, command: 0, deviceId: 0n, inBytes: 8, queue: 1, detail: "x" };
    await check("execute", command, async (one) => void await management.execute(one), left);
  });

  await served.stop();
});
