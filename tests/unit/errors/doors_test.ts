import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { emergencyWrite } from "../../../drivers/console/virtio_console.ts";
import { checkSavedNet, FrameBurst } from "../../../drivers/net/virtio_net.ts";
import { EventFd } from "../../../ffi/mod.ts";
import { requireType, typedError, typedErrors } from "../../../lib/errors/doors.ts";
import { DeviceError, UsageError } from "../../../lib/errors/mod.ts";
import { readTopology } from "../../../lib/emulation/mod.ts";
import { vfMac } from "../../../lib/emulation/virtio/net/mac_address.ts";
import { isVfioDriver } from "../../../lib/host/changes/driver_binding.ts";
import { KernelUsage } from "../../../lib/host/functions/kernel_usage.ts";
import { AnswerBudget } from "../../../lib/sockets/vfio_user/mod.ts";
import { Bar, ConfigAccess, DmaSpace } from "../../../lib/vfio/mod.ts";
import { checkSavedQueue, featureNames, MovableTransport, VirtioDevice } from "../../../lib/virtio/mod.ts";
import { checkQueueState, queueStateToWords } from "../../../lib/virtio/spec/queue_state.ts";
import { checkQueueStates } from "../../../lib/virtio/inspect_queues.ts";
import { decodeParts, encodeParts } from "../../../lib/virtio/spec/device_parts.ts";
import { legacySplitLayout } from "../../../lib/virtio/queue/layout.ts";
import { loadParts } from "../../../lib/virtio/admin/device_part_text.ts";
import { Waiter } from "../../../lib/wait/waiter.ts";
import { FakeIommu } from "../virtio/fake_iommu.ts";
import { FakeTransport } from "../virtio/transport/fake_transport.ts";

// deno-lint-ignore no-explicit-any -- callers without types: what they pass is none of what the signature says
const wrong = (value: unknown): any => value;

Deno.test("an argument of another type is a UsageError that names the call: methods, getters, constructors, functions", () => {
  using dma = new DmaSpace(new FakeIommu());
  for (const value of [null, Symbol("s"), 1n, "x", {}, Object.create(null), () => {}]) {
    assertThrows(
      () => dma.allocate(4096, { label: wrong(value), access: wrong(value) }).bytes(wrong(value)),
      UsageError,
    );
    assertThrows(() => new Bar(wrong(value), 0), UsageError, "new Bar: device");
    assertThrows(() => new ConfigAccess(wrong(value)), UsageError, "new ConfigAccess: device");
    assertThrows(() => new FrameBurst(wrong(value)), UsageError);
    assertThrows(() => new FrameBurst(4).frameBytes(wrong(value)), UsageError);
    assertThrows(() => encodeParts(wrong(value)), UsageError, "encodeParts: parts");
    assertThrows(() => decodeParts(wrong(value)), UsageError, "decodeParts: bytes");
    if (typeof value !== "bigint") {
      assertThrows(() => featureNames(wrong(value), 1), UsageError, "featureNames");
    }
    assertThrows(
      () => new VirtioDevice(wrong(value ?? {})).readConfig(0, 1),
      UsageError,
      "VirtioDevice.readConfig(0, 1)",
    );
    assertThrows(() => new EventFd(wrong(value ?? 0)), UsageError);
  }
});

Deno.test("where letting go fails, too, what went wrong first is thrown, typed", () => {
  class Calls {
    static {
      typedErrors(this);
    }
    /** Opens something that cannot be closed, and then fails. */
    open(first: Error): void {
      using opened = new DisposableStack();
      opened.defer(() => {
        throw new DeviceError("it cannot be closed", { function: "f" });
      });
      opened.defer(() => {
        throw new DeviceError("nor this", { function: "f" });
      });
      throw first;
    }
  }
  // The class of the test is none of this library's: its errors are its own.
  assertThrows(() => new Calls().open(new UsageError("first")), SuppressedError);
  const first = new UsageError("first");
  const ours = new SuppressedError(new DeviceError("second", { function: "f" }), first);
  ours.stack = `SuppressedError: x\n    at g (${new URL("../../../lib/x.ts", import.meta.url).href}:1:1)`;
  assertStrictEquals(typedError(ours, "g", []), first);
  const language = new SuppressedError(ours, new TypeError("x is no function"));
  language.stack = ours.stack;
  (language.suppressed as Error).stack = ours.stack;
  const typed = typedError(language, "g", [1]);
  assert(typed instanceof UsageError && typed.message.includes("g(1): x is no function"), String(typed));
});

Deno.test("a call that goes through several guarded ones settles as soon as through one, and is named by the outermost", async () => {
  class Calls {
    static {
      typedErrors(this);
    }
    readonly #below: Calls | undefined;
    constructor(below?: Calls) {
      this.#below = below;
    }
    run(value: number): Promise<number> {
      return this.#below?.run(value) ?? Promise.resolve(value);
    }
    fails(): void {
      if (this.#below !== undefined) return this.#below.fails();
      throw new UsageError("of the lowest");
    }
  }
  const turns = async (call: Calls): Promise<number> => {
    let settled = false, count = 0;
    void call.run(1).then(() => settled = true);
    for (; !settled; count++) await undefined;
    return count;
  };
  const one = new Calls(), four = new Calls(new Calls(new Calls(one)));
  assertEquals(await turns(four), await turns(one));
  // The next call is guarded again, also after one that failed.
  assertThrows(() => four.fails(), UsageError, "of the lowest");
  assertThrows(
    () => new VirtioDevice(wrong({})).readConfig(0, 1),
    UsageError,
    "VirtioDevice.readConfig(0, 1)",
  );
});

Deno.test("only what this library's own code threw is typed: errors of a caller's callback or getter stay what they are", async () => {
  class Door {
    static {
      typedErrors(this);
    }
    run(work: () => unknown): unknown {
      return work();
    }
    async wait(work: () => unknown): Promise<unknown> {
      return await work();
    }
  }
  const mine = new TypeError("mine");
  const door = new Door();
  const work = () => {
    throw mine;
  };
  assertStrictEquals(assertThrows(() => door.run(work)), mine);
  assertStrictEquals(await assertRejects(() => door.wait(work)), mine);
  assertEquals([door.run.name, door.run.length], ["run", 1]);
  assertEquals(await door.wait(() => 7), 7);
});

Deno.test("what cannot even be looked at is a wrong value like any other", () => {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  const bare = Object.create(null);
  const detached = new Uint8Array(8);
  const negotiated = () => {
    const device = new VirtioDevice(new FakeTransport());
    device.negotiate();
    return device;
  };
  const transport = { name: "t", kind: "k", profile: "spec", legacy: true };
  structuredClone(detached, { transfer: [detached.buffer] });
  for (const value of [proxy, bare, detached, Symbol("s"), 1n, null].map(wrong)) {
    const calls: (() => unknown)[] = [
      () => queueStateToWords(value),
      () => queueStateToWords(wrong({ layout: "packed", availableSlot: 0, availableWrap: value })),
      () => checkQueueState(value, 8),
      () => checkQueueStates(value),
      () => checkQueueStates({ version: 1, profile: "queue-state", queues: value }),
      () => checkSavedQueue(value),
      () => checkSavedQueue({ version: value }),
      () => checkSavedNet(value),
      () => loadParts(value),
      () => legacySplitLayout(128, value),
      () => new VirtioDevice(new FakeTransport()).negotiate({ dependencies: value ?? 1 }),
      () => new VirtioDevice(new FakeTransport()).negotiate({ dependencies: [value] }),
      () => negotiated().createQueue(0, { size: value ?? 0 }),
      () => emergencyWrite(wrong({ ...transport, deviceId: 3, readStatus: () => 0 }), value),
      () => isVfioDriver(value),
      () => new Waiter({ spinMicroseconds: value ?? "" }),
      () => new KernelUsage(wrong({}), value === detached || value === bare ? null : value),
      () => new EventFd(value ?? 0),
      () => new AnswerBudget(10, value),
      () => new MovableTransport(value),
      () => readTopology(value),
      () => readTopology({ functions: value }),
      () => readTopology({ functions: [value] }),
      () => vfMac(value, 0),
    ];
    for (const call of calls) {
      const error = assertThrows(call, UsageError);
      assert(error.message.length > 0, `${call}`);
    }
  }
  assertThrows(() => vfMac("poll", 0), UsageError, "MAC address");
});

Deno.test("requireType says what it got and what it wanted", () => {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  assertThrows(
    () => requireType(proxy, "object", "f: a"),
    UsageError,
    "f: a: an object is not of type object",
  );
  assertThrows(() => requireType({ a: 1 }, "object", "f: a", "a", "b"), UsageError, "with a, b");
  assertThrows(() => requireType([], "bytes", "f: a"), UsageError, "f: a: an array is not of type bytes");
  requireType(new Uint8Array(1), "bytes", "f: a");
  requireType([], "array", "f: a");
  requireType(1n, "bigint", "f: a");
});
