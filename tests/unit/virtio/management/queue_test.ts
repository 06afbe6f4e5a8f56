import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import {
  describeManagementCommand,
  ManagementCommandError,
  ManagementTimeoutError,
  VirtioManagement,
} from "../../../../drivers/management/virtio_management.ts";
import { ClosedError, DeviceError, UsageError } from "../../../../lib/errors/mod.ts";
import {
  TVQ_ACK,
  TVQ_COMMAND,
  TVQ_PADDED_HEADER,
  type TvqAckName,
  type TvqHeaderCodec,
} from "../../../../lib/virtio/spec/mod.ts";
import { bytes, FakeManagement, opened } from "./fake_management.ts";

/** Only what is not to be answered has so little time: the rest is not quick on a busy machine. */
const SOON = { timeoutMs: 60 } as const;

async function turns(count = 20): Promise<void> {
  for (let i = 0; i < count; i++) await Promise.resolve();
}

/** Device 7 and two more. */
async function three(options: Parameters<typeof opened>[1] = {}) {
  const fixture = await opened(() => undefined, { vectors: 2, ...options });
  const { device, management, managed } = fixture;
  const devices = [managed];
  for (const id of [8n, 9n]) {
    device.answer = () => ({ data: bytes([8, id]) });
    devices.push(await management.create({ type: 4, features: 0n }));
  }
  device.seen.length = 0;
  device.answer = () => undefined;
  return { ...fixture, devices: devices as [typeof managed, typeof managed, typeof managed] };
}

Deno.test("A-4.27: one command outstanding for each managed device, in the order of the calls; many on the queue", async () => {
  await using fixture = await three();
  const { device, devices: [a, b, c], management } = fixture;
  const done: string[] = [];
  const send = (name: string, sent: Promise<unknown>) => sent.then(() => void done.push(name));
  const all = [
    send("a1", a.setStatus(1)),
    send("a2", a.setStatus(3)),
    send("b1", b.setStatus(1)),
    send("a3", a.setStatus(11)),
    send("c1", c.setStatus(1)),
    send("0", management.execute({ deviceId: 0n, class: 1, command: 0 })),
  ];
  await turns();
  assertEquals(device.held.map(({ command }) => command.deviceId), [7n, 8n, 9n, 0n]);
  for (let at = 3; at >= 0; at--) device.release({}, at);
  while (device.held.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  assertEquals(device.held.map(({ command }) => [command.deviceId, command.data[0]]), [[7n, 3]]);
  device.answer = () => ({});
  device.release();
  await Promise.all(all);
  assertEquals(done.filter((one) => one.startsWith("a")), ["a1", "a2", "a3"]);
  assertEquals(device.seen.filter(({ deviceId }) => deviceId === 7n).map(({ data }) => data[0]), [1, 3, 11]);
});

Deno.test("a synchronous command waits for its device's turn, and settles calls that are answered meanwhile", async () => {
  await using fixture = await three();
  const { device, devices: [a, b] } = fixture;
  const before = a.setStatus(1), other = b.setStatus(3);
  await turns();
  assertEquals(device.held.length, 2);
  device.answer = () => ({ data: bytes([1, 1]) });
  // Two commands are held: nothing of device 7 is sent before its first is answered.
  const timer = { calls: 0 };
  const pump = () => {
    if (++timer.calls === 3) device.release();
    if (timer.calls === 6) device.release();
  };
  assertEquals(
    fixture.management.executeNow({ deviceId: 7n, class: 4, command: 1, inBytes: 1 }, { pump }),
    bytes([1, 1]),
  );
  assertEquals(device.seen.map(({ deviceId, is }) => `${deviceId} ${is}`), ["7 4.0", "8 4.0", "7 4.1"]);
  if (device.held.length > 0) device.release();
  await Promise.all([before, other]);
});

Deno.test("a command that is not answered: an error that names command, device and queue; the device is held back, others are not", async () => {
  await using fixture = await three({ timeoutMs: 5000 });
  const { device, management, devices: [a, b] } = fixture;
  const { class: ofClass, command } = TVQ_COMMAND.VQ_SIZE_SET;
  const lost = { deviceId: 7n, class: ofClass, command, out: bytes([2, 3], [2, 8], [4, 0]), queue: 3 };
  const error = await assertRejects(() => management.execute(lost, SOON), ManagementTimeoutError);
  assertEquals([error.class, error.command, error.deviceId, error.sent], [10, 0, 7n, true]);
  for (const part of ["fake 0", "VQ_SIZE_SET", "device 7", "queue 3", "60 ms"]) {
    assert(error.message.includes(part));
  }
  const behind = await assertRejects(() => management.execute(lost, SOON), ManagementTimeoutError);
  assertEquals(behind.sent, false);
  assert(behind.hint.includes("1 command"));
  const now = assertThrows(() => management.executeNow(lost, SOON), ManagementTimeoutError);
  assertEquals(now.sent, false);
  device.answer = () => ({});
  await b.setStatus(1);
  assertEquals([management.statistics.timedOut, management.statistics.late], [3, 0]);
  // Late: what was held back goes on.
  device.release();
  await a.setStatus(1);
  assertEquals(management.statistics.late, 1);
});

Deno.test("4.2: each ack but OK is an error that names class, command, device, queue and field; unknown codes are ERR", async () => {
  await using fixture = await opened();
  const { device, managed, management } = fixture;
  const fields: Partial<Record<TvqAckName, string>> = {
    COMMAND: "class",
    DEVICE_ID: "device_id",
    NO_DEVICE: "device_id",
    QUEUE_INDEX: "queue_index",
    OUT_DATA: "command-out-data",
    IN_DATA: "command-in-data",
    RESOURCES: "num_avail_vqs",
    DEVICE_TYPE: "virtio_device_id",
    ERR: "ack",
  };
  for (let ack = 1; ack <= 255; ack++) {
    const name = (Object.keys(TVQ_ACK) as TvqAckName[]).find((one) => TVQ_ACK[one] === ack) ?? "ERR";
    device.answer = () => ({ ack });
    const error = await assertRejects(() => managed.setQueueSize(2, 8), ManagementCommandError);
    assertEquals(
      [error.class, error.command, error.commandName, error.deviceId, error.queue, error.ack, error.ackName],
      [10, 0, "VQ_SIZE_SET", 7n, 2, ack, name],
    );
    assertEquals(error.field, fields[name] ?? "size");
    assert(error.message.startsWith(`fake 0, queue 2, ${error.field}: VQ_SIZE_SET of device 7 (queue 2): `));
    assert(error.hint !== "");
  }
  const created = await assertRejects(
    () => management.create({ type: 1, features: 2n }),
    ManagementCommandError,
  );
  assertEquals([created.deviceId, created.queue, created.commandName], [0n, undefined, "MDEV_CREATE"]);
  const own: readonly (readonly [TvqAckName, () => Promise<unknown>, string, string])[] = [
    ["CONFIG", () => management.create({ type: 1, features: 2n }), "dev_config", "A-4.16"],
    ["FEATURES", () => management.create({ type: 1, features: 2n }), "device_features", "VERSION_1"],
    ["NOT_NEGOTIATED", () => management.create({ type: 1, features: 2n }), "class", "featureBits"],
    ["STATE", () => managed.writeConfig(0, Uint8Array.of(1)), "size", "after FEATURES_OK"],
  ];
  for (const [name, call, field, hint] of own) {
    device.answer = () => ({ ack: TVQ_ACK[name] });
    const error = await assertRejects(call, ManagementCommandError);
    assertEquals([error.ackName, error.field], [name, field]);
    assert(error.hint.includes(hint), error.hint);
  }
  assertEquals(
    describeManagementCommand({ deviceId: 5n, class: 6, command: 0, detail: "offset 6, 2 bytes" }),
    "CONFIG_GET of device 5 (offset 6, 2 bytes)",
  );
  assertEquals(management.statistics.failed, 256 + own.length);
});

Deno.test("A-4.35: an answer that is none: used lengths that cannot be, and an ack that was not written", async () => {
  await using fixture = await opened();
  const { device, managed, management } = fixture;
  for (const used of [0, 1, 7]) {
    device.answer = () => ({ used });
    const error = await assertRejects(() => managed.setStatus(1), DeviceError, `wrote ${used} bytes`);
    assertEquals(error.location.field, "used.len");
  }
  // The device says that it has written, and has not: no success.
  device.answer = () => ({ ack: 255, used: 8 });
  await assertRejects(() => managed.setStatus(1), ManagementCommandError, "ERR");
  device.answer = () => ({});
  await managed.setStatus(1);
  assertEquals(management.statistics.succeeded, 2);
  // More than there is: the ring is broken, until the device is reset.
  device.answer = () => ({ used: 1000 });
  const broken = await assertRejects(() => managed.setStatus(1), DeviceError);
  assertStrictEquals(await managed.setStatus(1).catch((error) => error), broken);
  device.answer = () => ({ data: bytes([8, 1n]) });
  await management.reset();
  assertEquals((await management.create({ type: 4, features: 0n })).id, 1n);
});

Deno.test("A-4.34: a reset of the management device ends commands, handles and transports of its managed devices", async () => {
  await using fixture = await three();
  const { device, management, devices: [a, b] } = fixture;
  const transport = management.openTransport(8n);
  const heard: string[] = [];
  a.onEnd(() => heard.push("a"));
  const under = [a.setStatus(1), a.setStatus(2), management.resources()].map((one) =>
    assertRejects(() => one, ClosedError)
  );
  await turns();
  device.answer = () => ({});
  const reset = management.reset();
  const early = await assertRejects(
    () => management.create({ type: 4, features: 0n }),
    DeviceError,
    "is being reset",
  );
  assertEquals(early.hint, "wait for reset()");
  await reset;
  await Promise.all(under);
  assertEquals(heard, ["a"]);
  assertEquals([a.destroyed, b.destroyed, transport.closed, management.devices.length], [
    true,
    true,
    true,
    0,
  ]);
  device.seen.length = 0;
  await assertRejects(() => a.setStatus(1), ClosedError, "managed device fake 0/7");
  assertThrows(() => a.now.setStatus(1), ClosedError);
  assertThrows(() => management.device(7n), Error, "no managed device 7");
  transport.close();
  assertEquals(device.seen.length, 0);
});

Deno.test("a device that was destroyed is spoken to no more; one whose DESTROY failed is", async () => {
  await using fixture = await opened(() => ({ ack: TVQ_ACK.ERR }));
  const { device, management, managed } = fixture;
  await assertRejects(() => management.destroy(7n), ManagementCommandError);
  assertEquals(managed.destroyed, false);
  device.answer = () => ({});
  await managed.setStatus(1);
  await management.destroy(7n);
  assertEquals(managed.destroyed, true);
  await assertRejects(() => managed.setStatus(1), ClosedError);
  await assertRejects(() => management.destroy(7n), Error, "no managed device 7");
});

Deno.test("A-4.33: a device that its management device does not have any more counts as destroyed when it is to be: a DESTROY that timed out may have been carried out", async () => {
  for (const how of ["destroy", "destroyNow"] as const) {
    await using fixture = await opened(() => undefined);
    const { device, management, managed } = fixture;
    await assertRejects(() => management.destroy(7n, SOON), ManagementTimeoutError);
    assertEquals([managed.destroyed, management.devices], [false, [managed]]);
    device.release();
    device.answer = () => ({ ack: TVQ_ACK.NO_DEVICE });
    await assertRejects(() => managed.status(), ManagementCommandError);
    await management[how](7n);
    assertEquals([managed.destroyed, management.devices], [true, []]);
  }
});

Deno.test("after close everything is a ClosedError; options that cannot be are UsageErrors", async () => {
  const fixture = await opened();
  await fixture[Symbol.asyncDispose]();
  await assertRejects(() => fixture.management.resources(), ClosedError);
  await assertRejects(() => fixture.managed.status(), ClosedError);
  assertThrows(() => fixture.management.resourcesNow(), ClosedError);
  const options = [
    { depth: 0 },
    { timeoutMs: -1 },
    { layout: "natural" as "packed" },
    { featureBits: { vq: 44, mdev: 44 } },
    { featureBits: { vq: -1, mdev: 44 } },
    { featureBits: { vq: 64, mdev: 44 } },
    { featureBits: { vq: 44 } as { vq: number; mdev: number }, timeoutMs: NaN },
    { featureBits: { vq: 44, mdev: "45" as unknown as number } },
  ];
  for (const wrong of options) {
    const device = new FakeManagement();
    await assertRejects(() => VirtioManagement.open(device.transport, wrong), UsageError);
    assertEquals(device.transport.iommu.mapped.length, 0, "DMA memory is given back");
    device.transport.close();
  }
});

Deno.test("a command is what it was when it was asked for, whatever becomes of the caller's object while it waits for its turn", async () => {
  await using fixture = await three();
  const { device, management } = fixture;
  const { class: ofClass, command } = TVQ_COMMAND.STATUS_SET;
  const reused = { deviceId: 7n, class: ofClass, command, out: bytes([1, 1]) };
  const first = management.execute(reused);
  reused.out[0] = 3;
  const second = management.execute(reused);
  Object.assign(reused, { deviceId: 8n, class: 99, command: 5 });
  await turns();
  device.answer = () => ({});
  device.release();
  await Promise.all([first, second]);
  assertEquals(device.seen.map(({ deviceId, is, data }) => [deviceId, is, data[0]]), [
    [7n, "4.0", 1],
    [7n, "4.0", 3],
  ]);
});

Deno.test("a codec of the caller's that throws ends its own command, and no other", async () => {
  const mine = new Error("mine");
  let throws = false;
  const header = {
    ...TVQ_PADDED_HEADER,
    encodeHeader(...[head, into]: Parameters<TvqHeaderCodec["encodeHeader"]>) {
      if (throws) throw mine;
      TVQ_PADDED_HEADER.encodeHeader(head, into);
    },
  };
  await using fixture = await opened(() => ({ data: bytes([1, 15]) }), { header });
  const { managed, management } = fixture;
  throws = true;
  assertStrictEquals(await assertRejects(() => managed.status()), mine);
  assertStrictEquals(assertThrows(() => managed.now.status()), mine);
  throws = false;
  assertEquals([await managed.status(), managed.now.status()], [15, 15]);
  assertEquals(management.statistics.failed, 2);
});
